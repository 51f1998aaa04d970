"""Schedules that need no run of their own: those equivalent to another, and those that runs prove impossible.

Equivalent: two neighbouring segments that share nothing can change places without anybody noticing (Mazurkiewicz);
of all schedules that become equal that way one is run. What a segment may share is declared with its point
(`activities.py`), generously: what is not known is everything.

Impossible: an activity was let go and came to no further point because it waits for one that is held. Where tasks
stand says which locks they hold, so the same positions need not be tried again in another order of arrival. What
becomes of it when all are let go was seen in that one run: they come back, or the kernel is deadlocked.

Shorter: an activity came to its end, or to a later point, instead of the point it was awaited at, such as a load that
fails. It needs fewer letters then; what is left without the last of them is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.explore.schedules import Schedule

Segment = tuple[str, int]  # an activity and which of its segments, from 1
Independence = Callable[[Segment, Segment], bool]

Why = Literal["equivalent", "impossible", "shorter"]


@dataclass(frozen=True)
class Pruned:
    """A schedule that is not run, why, and the one that is run in its place, if there is one."""

    why: Why
    text: str
    instead: Schedule | None = None


def segments_of(schedule: Schedule) -> tuple[Segment, ...]:
    """The schedule with its letters numbered."""
    seen: dict[str, int] = {}
    numbered = []
    for name in schedule:
        seen[name] = seen.get(name, 0) + 1
        numbered.append((name, seen[name]))
    return tuple(numbered)


def canonical(schedule: Schedule, independent: Independence) -> Schedule:
    """The lexically first of the schedules that this one is equivalent to.

    At each place stands the first activity whose next segment depends on none of those that were before it.
    """
    rest = list(segments_of(schedule))
    ordered: list[str] = []
    while rest:
        free = [
            segment
            for place, segment in enumerate(rest)
            if all(segment[0] != earlier[0] and independent(earlier, segment) for earlier in rest[:place])
        ]
        first = min(free)
        rest.remove(first)
        ordered.append(first[0])
    return tuple(ordered)


def representatives(schedules: Iterable[Schedule], independent: Independence) -> dict[Schedule, Schedule]:
    """Each schedule with the one that stands for it: the first in the order given of those it is equivalent to."""
    chosen: dict[Schedule, Schedule] = {}
    return {schedule: chosen.setdefault(canonical(schedule, independent), schedule) for schedule in schedules}


@dataclass
class Lessons:
    """What runs have taught about schedules that were not run yet. `segments` are how many each activity has."""

    segments: Mapping[str, int]
    _blocked: dict[tuple[str, tuple[tuple[str, int], ...]], str] = field(default_factory=dict)
    _went: dict[Schedule, tuple[int, str]] = field(default_factory=dict)

    def blocked(self, begun: Schedule, text: str) -> None:
        """The last letter of `begun` let an activity go that came to no further point; `text`: who it waits for."""
        self._blocked.setdefault(self._place(begun), text)

    def went(self, begun: Schedule, position: int, text: str) -> None:
        """With the last letter of `begun` that activity came to `position`, and not to the next one."""
        self._went.setdefault(begun, (position, text))

    def positions(self, begun: Schedule) -> dict[str, int]:
        """The point that each activity stands at after these letters, from 1; one more than it has at its end."""
        found = dict.fromkeys(self.segments, 1)
        for length, name in enumerate(begun, start=1):
            found[name] = self._went.get(begun[:length], (found[name] + 1, ""))[0]
        return found

    def look(self, schedule: Schedule) -> Pruned | None:
        """Why `schedule` need not be run; None when it has to be."""
        begun: Schedule = ()
        because = ""
        for name in schedule:
            if self.positions(begun)[name] > self.segments[name]:
                return Pruned("shorter", because, self._shortened(schedule))
            begun = (*begun, name)
            if text := self._blocked.get(self._place(begun)):
                return Pruned("impossible", text)
            because = self._went.get(begun, (0, because))[1]
        return None

    def _shortened(self, schedule: Schedule) -> Schedule:
        """The schedule without the letters of those that have come to their end."""
        kept: Schedule = ()
        for name in schedule:
            if self.positions(kept)[name] <= self.segments[name]:
                kept = (*kept, name)
        return kept

    def _place(self, begun: Schedule) -> tuple[str, tuple[tuple[str, int], ...]]:
        return begun[-1], tuple(sorted(self.positions(begun[:-1]).items()))


def shared_nothing(touched: Mapping[Segment, frozenset[str]], everything: str) -> Independence:
    """Segments of different activities are independent when they may touch nothing in common."""

    def independent(one: Segment, other: Segment) -> bool:
        mine, yours = touched[one], touched[other]
        return everything not in mine | yours and not mine & yours

    return independent
