"""Figures: what was measured, as medians with their spread, and the ratio of two that were measured in turn."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import HarnessError


@dataclass(frozen=True)
class Figure:
    """One thing that was timed. `seconds` has a value per round, in their order; at least one."""

    name: str
    seconds: tuple[float, ...]
    target: float | None = None  # at most, in seconds

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.target is None else self.median <= self.target


@dataclass(frozen=True)
class Ratio:
    """How one figure compares with another, round by round.

    The two runs of a round stand next to each other in time, so what else the machine did weighs on both, and
    the median of the rounds' ratios is steadier than the ratio of the medians.
    """

    name: str
    values: tuple[float, ...]
    target: float | None = None  # at most

    @classmethod
    def of(cls, name: str, figure: Figure, reference: Figure, target: float | None = None) -> Ratio:
        """figure / reference; raises ValueError when they do not have the same rounds."""
        pairs = zip(figure.seconds, reference.seconds, strict=True)
        return cls(name, tuple(seconds / against for seconds, against in pairs), target)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.target is None else self.median <= self.target


@dataclass(frozen=True)
class Missing:
    """Something that could not be measured here, and why."""

    name: str
    error: HarnessError


@dataclass(frozen=True)
class Results:
    """All that a section of the bench has found. What is missing keeps nothing else from being there."""

    section: str
    figures: tuple[Figure, ...]
    ratios: tuple[Ratio, ...]
    missing: tuple[Missing, ...]


def spread(values: Sequence[float]) -> tuple[float, float, float, int]:
    """Median, minimum, maximum and number of `values`, in the order in which they are shown."""
    return statistics.median(values), min(values), max(values), len(values)
