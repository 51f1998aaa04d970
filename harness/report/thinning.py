"""Which events a page shows when there are more than anybody scrolls through."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from harness.judge.verdict import Finding
from harness.report.timeline import Timeline

# Of a page with so many rows Chromium draws the first screen in about a second, and filters in a tenth of one.
MOST = 2000


@dataclass(frozen=True)
class Shown:
    """The positions of the events that are shown, in order; before some of them, what was left out."""

    positions: tuple[int, ...]
    left_out: Mapping[int, Mapping[str, int]]  # shown position (or the number of all events) -> event -> how many

    @property
    def count_left_out(self) -> int:
        return sum(count for gap in self.left_out.values() for count in gap.values())


def shown(timeline: Timeline, most: int = MOST) -> Shown:
    """All events of a run that has at most `most`; else what verdicts rest on, then the rarest kinds.

    Of a kind that does not fit as a whole, the first ones and the last ones.
    """
    events = timeline.events
    if len(events) <= most:
        return Shown(tuple(range(len(events))), {})
    kinds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, event in enumerate(events):
        kinds[event.name, event.phase].append(index)
    chosen: set[int] = set()
    for positions in [*_landmarks(timeline), *sorted(kinds.values(), key=len)]:
        room = most - len(chosen)
        rest = [index for index in positions if index not in chosen]
        chosen.update(rest if len(rest) <= room else [*rest[: room - room // 2], *rest[len(rest) - room // 2 :]])
    return _with_gaps(timeline, sorted(chosen))


def _landmarks(timeline: Timeline) -> list[list[int]]:
    """What a verdict rests on, steps and holds, where virtualization changes; what most depends on first."""
    failed = [index for index, marks in timeline.marks.items() if any(m.finding is Finding.FAILED for m in marks)]
    spans = [end for span in timeline.spans if span.kind != "call" for end in (span.first, span.last)]
    turns = [band.first for band in timeline.bands]
    return [sorted(set(positions)) for positions in (failed, spans, turns, timeline.marks)]


def _with_gaps(timeline: Timeline, positions: list[int]) -> Shown:
    gaps = {}
    before = -1
    for position in [*positions, len(timeline.events)]:
        if position > before + 1:
            gaps[position] = dict(
                Counter(event.name for event in timeline.events[before + 1 : position]).most_common()
            )
        before = position
    return Shown(tuple(positions), gaps)
