"""Runs taken in turn: A B A B …, never all of A and then all of B.

A machine that is busy, or whose disk cache is cold, is so for minutes. In turn, that weighs on all subjects alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness import progress
from harness.bench.figures import Figure, Missing, Ratio, Results
from harness.deadline import Deadline
from harness.errors import HarnessError


class Subject(Protocol):
    """What is timed."""

    name: str

    def prepare(self, deadline: Deadline) -> None:
        """Gets all that `run` needs; not timed. Raises HarnessError when it cannot run here."""

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        """Does it once; returns seconds by the name of the figure, the same names every time."""


@dataclass(frozen=True)
class Wanted:
    """A ratio that a section shows when both of its figures could be measured."""

    name: str
    figure: str
    reference: str
    target: float | None = None


@dataclass(frozen=True)
class Section:
    """Subjects that are measured in turn."""

    name: str
    subjects: Sequence[Subject]
    ratios: Sequence[Wanted] = ()
    targets: Mapping[str, float] = field(default_factory=dict)  # of figures: seconds at most
    run_s: float = 300.0  # for one run of one subject
    prepare_s: float = 1800.0  # a slow line has a kernel to carry


def measure(section: Section, rounds: int) -> Results:
    """Prepares the subjects, then runs them in turn, `rounds` times each.

    A subject that fails is left out from then on and reported as missing; the others go on.
    """
    missing: dict[str, HarnessError] = {}
    seconds: dict[str, dict[str, list[float]]] = {subject.name: {} for subject in section.subjects}
    for subject in section.subjects:
        try:
            subject.prepare(Deadline.after(section.prepare_s, f"preparing {subject.name}"))
        except HarnessError as error:
            missing[subject.name] = error
    for number in range(1, rounds + 1):
        for subject in section.subjects:
            if subject.name in missing:
                continue
            try:
                with progress.task(f"{subject.name}, {number} of {rounds}"):
                    measured = subject.run(Deadline.after(section.run_s, subject.name))
            except HarnessError as error:
                missing[subject.name] = error
                continue
            for name, value in measured.items():
                seconds[subject.name].setdefault(name, []).append(value)
    figures = {
        name: Figure(name, tuple(values), section.targets.get(name))
        for subject in section.subjects
        if subject.name not in missing
        for name, values in seconds[subject.name].items()
    }
    ratios = [
        Ratio.of(wanted.name, figures[wanted.figure], figures[wanted.reference], wanted.target)
        for wanted in section.ratios
        if wanted.figure in figures and wanted.reference in figures
    ]
    return Results(
        section.name,
        tuple(figures.values()),
        tuple(ratios),
        tuple(Missing(name, error) for name, error in missing.items()),
    )
