"""What a run said of its schedule, as one line of the exploration's results."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import Exit
from harness.explore.scenario import point_id
from harness.explore.schedules import Schedule, parse_schedule, schedule_name
from harness.judge.verdict import Finding
from harness.report.result import RunResult

# held: it happened, and all that must be true was. broken: something was not. blocked, ended: an activity did not
# come to its next point, since it waits for one that is held, or since it is over. unseen: the schedule did not
# happen for another reason. fault: the harness failed.
How = Literal["held", "broken", "blocked", "ended", "unseen", "fault"]


@dataclass(frozen=True)
class Breach:
    """Something that must be true and was not: the claim and what was found; a splat or a hang has no claim."""

    claim: str
    text: str


@dataclass(frozen=True)
class Ran:
    """A schedule that was run. `length` is how much of it had happened, `why` what it did not go on with."""

    schedule: Schedule
    how: How
    seconds: float
    folder: str
    length: int
    why: str = ""
    breaches: tuple[Breach, ...] = ()

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
    return re.sub(r"0x[0-9a-f]{5,}|\b\d{3,}(?:\.\d+)?\b", "…", text.splitlines()[0])


def read_results(path: Path) -> list[Ran]:
    """The results that a file has so far."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Ran.from_json(json.loads(line)) for line in lines]


@dataclass(frozen=True)
class Missed:
    """A hold that nobody came to, as the run's folder has it."""

    point: str
    why: str  # exited, ended, asleep, running
    text: str  # the activity's outcome, or where it sleeps

    @classmethod
    def of(cls, folder: Path) -> Missed | None:
        """None when the run missed no hold."""
        missed = json.loads((folder / "run.json").read_text()).get("missed")
        if not missed:
            return None
        return cls(missed["point"], missed["why"], missed["detail"])


def ran(schedule: Schedule, result: RunResult) -> Ran:
    """What became of `schedule` in its run."""
    missed = Missed.of(result.folder)
    length = len(schedule) if missed is None else _length(schedule, missed.point)
    breaches = _breaches(result)
    how, why = _how(result, missed, breaches)
    return Ran(schedule, how, round(result.seconds, 3), str(result.folder), length, why, breaches)


def _how(result: RunResult, missed: Missed | None, breaches: tuple[Breach, ...]) -> tuple[How, str]:
    if breaches:
        return "broken", ""
    if missed is not None and missed.why == "exited":
        return "ended", missed.text
    if missed is not None and missed.why == "asleep":
        return "blocked", missed.text
    if result.exit is Exit.CONFIRMED:
        return "held", ""
    how: How = "unseen" if result.exit is Exit.NOT_EXERCISED else "fault"
    return how, result.fault or "; ".join(_texts(result, Finding.UNSEEN))


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


def _length(schedule: Schedule, point: str) -> int:
    """How many letters there are up to the one that should have come to `point`; 0 when it is a first point."""
    seen: Counter[str] = Counter()
    for place, name in enumerate(schedule, start=1):
        seen[name] += 1
        if point_id(name, seen[name] + 1) == point:
            return place
    return 0
