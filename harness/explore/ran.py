"""What a run said of its schedule, as one line of the exploration's results."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import Exit
from harness.explore.schedules import Schedule, parse_schedule, schedule_name
from harness.judge.verdict import Finding
from harness.report.result import RunResult

# held: it happened, and all that must be true was. broken: something was not. blocked: an activity did not come to
# its next point, since it waits for one that is held. strayed: it came to a later one, or to its end. unseen: the
# schedule did not happen for another reason. fault: the harness failed.
How = Literal["held", "broken", "blocked", "strayed", "unseen", "fault"]


@dataclass(frozen=True)
class Breach:
    """Something that must be true and was not: the claim and what was found; a splat or a hang has no claim."""

    claim: str
    text: str


@dataclass(frozen=True)
class Ran:
    """A schedule that was run. `length` is how much of it had happened, `why` what it did not go on with.

    `position` is of one that strayed: the point that the last of these letters brought its activity to.
    """

    schedule: Schedule
    how: How
    seconds: float
    folder: str
    length: int
    why: str = ""
    breaches: tuple[Breach, ...] = ()
    position: int = 0

    @property
    def kinds(self) -> tuple[Breach, ...]:
        """What it broke, each once, without what differs from run to run: addresses, times, process ids."""
        return tuple(dict.fromkeys(Breach(breach.claim, _general(breach.text)) for breach in self.breaches))

    @property
    def begun(self) -> Schedule:
        """The schedule up to the letter that was not done as it should be."""
        return self.schedule[: self.length]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "schedule": schedule_name(self.schedule)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ran:
        """The inverse of `to_json`."""
        breaches = tuple(Breach(**breach) for breach in data["breaches"])
        return cls(**{**data, "schedule": parse_schedule(data["schedule"]), "breaches": breaches})


def _general(text: str) -> str:
    return re.sub(r"(?<=CPU: )\d+|(?<=PID: )\d+|0x[0-9a-f]{5,}|\b\d{3,}(?:\.\d+)?\b", "…", text.splitlines()[0])


def read_results(path: Path) -> list[Ran]:
    """The results that a file has so far."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Ran.from_json(json.loads(line)) for line in lines]


_FOR_WORKER = "__flush_work+"  # kernel/workqueue.c


@dataclass(frozen=True)
class Missed:
    """A hold that nobody came to, as the run's folder has it. `held` are the points at which somebody was."""

    point: str
    why: str  # MissedHold's
    text: str
    sleeping: Mapping[str, str]
    held: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path) -> Missed | None:
        """None when the run missed no hold."""
        meta = json.loads((folder / "run.json").read_text())
        if not (missed := meta.get("missed")):
            return None
        held = tuple(hold["point"] for hold in meta["holds"])
        return cls(missed["point"], missed["why"], missed["detail"], missed["sleeping"], held)

    @property
    def blocked(self) -> str:
        """Where the activity that was awaited sleeps; "" when it is only slow, or not known to sleep.

        It may sleep by another task: a kworker, which is nobody's; who waits for one says nothing.
        """
        if self.why != "asleep":
            return ""
        own, nobodys = self.sleeping.get(self.point.rpartition("-")[0], ""), self.sleeping.get("", "")
        return nobodys or ("" if _FOR_WORKER in own else own)


def ran(schedule: Schedule, result: RunResult, aims: Sequence[str], segments: Mapping[str, int]) -> Ran:
    """What became of `schedule` in its run.

    `aims` are the points that its letters bring their activities to, "" for an end; `segments` are how many each
    activity has.
    """
    missed = Missed.of(result.folder)
    length = len(schedule)
    if missed is not None:  # a first point is no letter's
        length = aims.index(missed.point) + 1 if missed.point in aims else 0
    breaches = _breaches(result)
    how, why = _how(result, missed, breaches)
    if how in ("blocked", "strayed") and not length:
        how, why = "unseen", result.fault.splitlines()[0]
    elif how == "blocked" and missed is not None and (caught := _caught(missed, aims[:length])):
        how, why = "unseen", f"somebody else was held at {caught}, whom the schedule has not let go there"
    position = _position(missed, segments) if how == "strayed" and missed is not None else 0
    return Ran(schedule, how, round(result.seconds, 3), str(result.folder), length, why, breaches, position)


def _how(result: RunResult, missed: Missed | None, breaches: tuple[Breach, ...]) -> tuple[How, str]:
    if breaches:
        return "broken", ""
    if missed is not None and missed.why in ("exited", "elsewhere"):
        return "strayed", result.fault.splitlines()[0]
    if missed is not None and missed.blocked:
        return "blocked", missed.blocked
    if result.exit is Exit.CONFIRMED:
        return "held", ""
    how: How = "unseen" if result.exit is Exit.NOT_EXERCISED else "fault"
    return how, result.fault or "; ".join(_texts(result, Finding.UNSEEN))


def _caught(missed: Missed, aims: Sequence[str]) -> str:
    """A point at which somebody was held although no letter brought its activity there; "" for none.

    A point that is a task's and no actor's, such as a CPU's hotplug thread, takes whoever makes that task work.
    """
    begun = {*aims, missed.point}
    return next((point for point in missed.held if point not in begun and not point.endswith("-1")), "")


def _position(missed: Missed, segments: Mapping[str, int]) -> int:
    """Where the activity of a point that was missed has gone instead: to its end, or to another point."""
    name, _, number = (missed.text if missed.why == "elsewhere" else missed.point).rpartition("-")
    return int(number) if missed.why == "elsewhere" else segments[name] + 1


def _breaches(result: RunResult) -> tuple[Breach, ...]:
    """What failed, each once: what the whole run is accused of stands with every claim."""
    if result.exit not in (Exit.VIOLATED,):
        return ()
    found = {
        Breach(claim.use.claim.id if finding.expectation else "", finding.text): None
        for claim in result.judgement.claims
        for finding in claim.findings
        if finding.finding is Finding.FAILED
    }
    return tuple(found)


def _texts(result: RunResult, kind: Finding) -> list[str]:
    texts = [f.text for claim in result.judgement.claims for f in claim.findings if f.finding is kind]
    return list(dict.fromkeys(texts))
