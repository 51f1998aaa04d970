"""What a night has to say: what changed since the last green one, what is flaky, what is new and what is gone."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import Exit, worst_exit
from harness.fleet.frozen import FrozenKernel
from harness.fleet.nights import Attempt, Line, Night, NightCell, NightKernel, Nights, Sighting
from harness.fleet.span import Span
from harness.judge.verdict import Verdict

SUMMARY_FORMAT = 1  # of the JSON document; raised when a field changes its meaning


class Status(enum.Enum):
    """What became of a line since the night before that has it."""

    BROKE = "broke"  # it was green
    STILL = "still"  # it was not green either
    FIXED = "fixed"
    NEW = "new"  # no night has it
    SAME = "same"  # green, as before
    FLAKY = "flaky"  # its verdict changes on one kernel and one scenario: no news about either


@dataclass(frozen=True)
class LineReport:
    """A line tonight. `reference` is the night that it is compared with: the last green one, or for a line that is
    green again the last that was not; None where there is no such night."""

    now: Sighting
    status: Status
    reference: int | None
    span: Span | None  # from the reference's kernel to tonight's
    scenario_changed: bool  # since the reference
    rate: Mapping[Verdict, int]  # of a flaky line: runs by verdict, in all nights that are comparable
    nights: int  # as many
    attempt: Attempt  # the one to look at: the first that is not as declared
    evidence: str

    @property
    def verdict(self) -> str:
        """What tonight's runs agree on, or that they do not."""
        return self.now.verdicts[0].value if len(self.now.verdicts) == 1 else "flaky"

    def to_json(self) -> dict[str, Any]:
        line = self.now.line
        return {
            "scenario": line.scenario,
            "claim": line.claim,
            "kernel": line.kernel,
            "engine": line.engine,
            "status": self.status.value,
            "verdict": self.verdict,
            "green": self.now.green,
            "runs": {verdict.value: count for verdict, count in _by_verdict([self.now]).items()},
            "reference": self.reference,
            "span": self.span.to_json() if self.span else None,
            "scenario_changed": self.scenario_changed,
            "rate": {verdict.value: count for verdict, count in self.rate.items()},
            "nights": self.nights,
            "folder": self.attempt.folder,
            "evidence": self.evidence,
        }


@dataclass(frozen=True)
class KernelReport:
    """A kernel tonight, and what came into it since the night before that has it."""

    kernel: NightKernel
    since: int | None
    span: Span | None

    def to_json(self) -> dict[str, Any]:
        frozen = self.kernel.frozen
        return {
            "name": frozen.name,
            "spec": frozen.spec,
            "revision": frozen.revision,
            "release": frozen.release,
            "key": frozen.key,
            "exit": None if self.kernel.exit is None else int(self.kernel.exit),
            "fault": self.kernel.fault,
            "since": self.since,
            "span": self.span.to_json() if self.span else None,
        }


@dataclass(frozen=True)
class Summary:
    """A night in the light of those before it."""

    night: Night
    kernels: tuple[KernelReport, ...]
    lines: tuple[LineReport, ...]
    vanished: tuple[Line, ...]  # of the night before
    cells: int
    missing: int  # cells without a run
    seconds: float  # of all runs together
    exit: Exit

    def having(self, status: Status) -> list[LineReport]:
        return [line for line in self.lines if line.status is status]

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON data; docs/nightly.md has the format."""
        return {
            "format": SUMMARY_FORMAT,
            "matrix": self.night.matrix,
            "night": self.night.id,
            "state": self.night.state,
            "began": self.night.began,
            "ended": self.night.ended,
            "exit": int(self.exit),
            "cells": self.cells,
            "missing": self.missing,
            "seconds": round(self.seconds, 1),
            "kernels": [kernel.to_json() for kernel in self.kernels],
            "lines": [line.to_json() for line in self.lines],
            "vanished": [vars(line) for line in self.vanished],
        }


# From the kernel of one night to that of another, by name.
SpanBetween = Callable[[FrozenKernel, FrozenKernel], Span]


def summarize(nights: Nights, night: Night, window: int, between: SpanBetween) -> Summary:
    """The summary of a night. `window` is how many nights a rate of flakiness looks back, this one included."""
    cells = nights.cells(night.id)
    before: dict[Line, list[Sighting]] = {}
    tonight: list[Sighting] = []
    for sighting in nights.history(night.id):
        if sighting.night == night.id:
            tonight.append(sighting)
        else:
            before.setdefault(sighting.line, []).append(sighting)
    # What is still to be run was not seen: of `repeat` runs of a cell, too.
    unseen = [] if night.state == "finished" else [Exit.NOT_EXERCISED]
    known = _Kernels(nights, between)
    reports = _Lines(
        known, window, before, {(one.cell.scenario, one.cell.kernel, one.cell.engine): one for one in cells}
    )
    return Summary(
        night=night,
        kernels=tuple(known.report(night.id)),
        lines=tuple(reports.of(sighting) for sighting in tonight),
        vanished=_vanished(night, nights.all(), before, {sighting.line for sighting in tonight}),
        cells=len(cells),
        missing=sum(not one.attempts for one in cells),
        seconds=sum(attempt.seconds for one in cells for attempt in one.attempts),
        exit=worst_exit([*(cell_exit(one.attempts) for one in cells), *unseen]),
    )


def cell_exit(attempts: Sequence[Attempt]) -> Exit:
    """The exit status that a cell adds to its night: a claim that changes from run to run proves nothing, and a fault
    of the harness that another run got over is none."""
    counted = [one for one in attempts if one.exit is not Exit.HARNESS_FAULT] or attempts
    differing = Counter(
        claim for claim, _ in {(claim.claim, claim.verdict) for one in counted for claim in one.claims}
    )
    if all(verdicts == 1 for verdicts in differing.values()):
        return worst_exit([one.exit for one in counted])
    agreed = [
        claim.verdict.exit or Exit.VIOLATED
        for one in counted
        for claim in one.claims
        if differing[claim.claim] == 1 and not claim.declared
    ]
    return worst_exit([Exit.NOT_EXERCISED, *agreed])


def _by_verdict(sightings: Iterable[Sighting]) -> Mapping[Verdict, int]:
    runs: Counter[Verdict] = Counter()
    for sighting in sightings:
        for (verdict, _), count in sighting.counted.items():
            runs[verdict] += count
    return runs


@dataclass
class _Kernels:
    """The kernels of all nights that are asked for."""

    nights: Nights
    between: SpanBetween

    def __post_init__(self) -> None:
        self._of: dict[int, dict[str, NightKernel]] = {}
        self._spans: dict[tuple[int, int, str], Span] = {}

    def of(self, night: int) -> dict[str, NightKernel]:
        if night not in self._of:
            self._of[night] = self.nights.kernels(night, {})
        return self._of[night]

    def span(self, old: int, new: int, name: str) -> Span:
        if (old, new, name) not in self._spans:
            self._spans[old, new, name] = self.between(self.of(old)[name].frozen, self.of(new)[name].frozen)
        return self._spans[old, new, name]

    def report(self, night: int) -> Iterable[KernelReport]:
        earlier = [other.id for other in self.nights.all() if other.id < night]
        for name, kernel in self.of(night).items():
            since = next((other for other in reversed(earlier) if name in self.of(other)), None)
            yield KernelReport(kernel, since, self.span(since, night, name) if since is not None else None)


@dataclass(frozen=True)
class _Lines:
    """Lines of tonight against those of the nights before."""

    kernels: _Kernels
    window: int
    before: Mapping[Line, Sequence[Sighting]]
    cells: Mapping[tuple[str, str, str], NightCell]

    def of(self, now: Sighting) -> LineReport:
        line, before = now.line, self.before.get(now.line, ())
        like = [one for one in before if one.key and (one.key, one.digest) == (now.key, now.digest)]
        comparable = [*like, now][-self.window :]
        rate = _by_verdict(comparable)
        flaky = len([verdict for verdict in rate if verdict is not Verdict.HARNESS_FAULT]) > 1
        status = Status.FLAKY if flaky else _status(now, before)
        other = (one for one in reversed(before) if one.green != now.green)
        reference = None if status is Status.SAME else next(other, None)
        attempt, evidence = self._telling(line)
        return LineReport(
            now=now,
            status=status,
            reference=reference.night if reference else None,
            span=self.kernels.span(reference.night, now.night, line.kernel) if reference else None,
            scenario_changed=reference is not None and reference.digest != now.digest,
            rate=rate if flaky else {},
            nights=len(comparable) if flaky else 0,
            attempt=attempt,
            evidence=evidence,
        )

    def _telling(self, line: Line) -> tuple[Attempt, str]:
        """The first run that counts in which the claim is not as declared, else the first; and what that says."""
        attempts = self.cells[line.scenario, line.kernel, line.engine].attempts
        pairs = [(attempt, one) for attempt in attempts for one in attempt.claims if one.claim == line.claim]
        counted = [pair for pair in pairs if pair[1].verdict is not Verdict.HARNESS_FAULT] or pairs
        attempt, told = next((pair for pair in counted if not pair[1].declared), counted[0])
        return attempt, told.evidence


def _status(now: Sighting, before: Sequence[Sighting]) -> Status:
    if not before:
        return Status.NEW
    # A night on which the harness failed saw nothing: what broke since the one before it is news.
    last = next((one for one in reversed(before) if one.verdicts != [Verdict.HARNESS_FAULT]), before[-1])
    if now.green:
        return Status.SAME if last.green else Status.FIXED
    return Status.BROKE if last.green else Status.STILL


def _vanished(
    night: Night, all_nights: Sequence[Night], before: Mapping[Line, Sequence[Sighting]], now: set[Line]
) -> tuple[Line, ...]:
    """The lines of the last night that came to its end, if this one has as well."""
    ended = [other.id for other in all_nights if other.id < night.id and other.state == "finished"]
    if not ended or night.state != "finished":
        return ()
    last = {line for line, sightings in before.items() if any(one.night == ended[-1] for one in sightings)}
    return tuple(sorted(last - now, key=str))
