"""The lanes of a timeline as geometry: what stands where in the SVG, and nothing of how it looks.

Across, a place is a slot: each event that is shown has one, and its middle is at slot + 0.5. The page's script zooms
by giving slots more pixels. Down, a place is in pixels.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.judge.verdict import Finding, Judgement
from harness.observe.sample import Sample
from harness.probes.event import Event
from harness.report.thinning import Shown
from harness.report.timeline import Band, LogLine, Span, Timeline
from harness.scenario.expectations import ExitStatus, Expectation, State, Virt

WIDTH = 1100.0  # of all slots together, unzoomed
GUTTER = 64.0  # left of them: the lanes' names
_STEP_H = 20.0
_SAMPLE_ROWS, _SAMPLE_ROW_H = 3, 13.0  # the samples' names, above all lanes
_TOP = 8.0
_LANE_H = 50.0
_LANE_GAP = 8.0
_LABEL_Y = 13.0  # baseline of a lane's texts
_BAR_Y, _BAR_H, _BARS = 21.0, 7.0, 3
_LOG_H = 24.0
_CHAR = 6.2  # pixels of a letter at the size of labels
_BOLD = 1.15  # times as wide
_ROOM = 6.0
_REPEAT = 150.0  # a name is said again after so many pixels


@dataclass(frozen=True)
class Box:
    """Something between two slots; `event` is the position that it leads to."""

    x: float
    x2: float
    y: float
    h: float
    kind: str
    text: str
    title: str
    event: int | None = None


@dataclass(frozen=True)
class Spot:
    """Something at a slot; `label` is drawn beside it where `room` says that there is room."""

    x: float
    y: float
    kind: str
    title: str
    event: int | None = None
    label: str = ""
    room: bool = False
    marked: bool = False


@dataclass(frozen=True)
class Lane:
    cpu: int
    y: float
    h: float


@dataclass(frozen=True)
class Badge:
    """A numbered violation: where it shows, and what it is."""

    number: int
    spots: tuple[tuple[float, float], ...]  # slot, pixels down
    claim: str
    text: str
    events: tuple[int, ...]


@dataclass(frozen=True)
class Drawing:
    """The whole of it. `scale` is pixels per slot, unzoomed."""

    slots: int
    height: float
    plot_y: float
    lanes: tuple[Lane, ...]
    steps: tuple[Box, ...]
    bands: tuple[Box, ...]
    calls: tuple[Box, ...]
    holds: tuple[Box, ...]
    spots: tuple[Spot, ...]
    samples: tuple[Spot, ...]
    prints: tuple[Spot, ...]
    boots: tuple[Spot, ...]
    badges: tuple[Badge, ...]

    @property
    def scale(self) -> float:
        return WIDTH / max(self.slots, 1)


def draw(timeline: Timeline, shown: Shown, judgement: Judgement) -> Drawing:
    """The lanes of what is shown of a run."""
    return _Draughtsman(timeline, shown, judgement).drawing()


class _Draughtsman:
    def __init__(self, timeline: Timeline, shown: Shown, judgement: Judgement) -> None:
        self._timeline = timeline
        self._positions = shown.positions
        self._judgement = judgement
        self._scale = WIDTH / max(len(shown.positions), 1)
        self._steps = _tracks([span for span in timeline.spans if span.kind == "step"])
        self._rows_of_samples = self._place_samples()
        self._head = _TOP + _SAMPLE_ROW_H * (1 + max((row for _, _, row in self._rows_of_samples), default=-1))
        self._plot_y = self._head + _STEP_H * (max((row for _, row in self._steps), default=-1) + 1)
        self._lanes = {
            cpu: Lane(cpu, self._plot_y + row * (_LANE_H + _LANE_GAP), _LANE_H)
            for row, cpu in enumerate(timeline.cpus)
        }
        self._log_y = self._plot_y + len(self._lanes) * (_LANE_H + _LANE_GAP) + 4

    def drawing(self) -> Drawing:
        return Drawing(
            slots=len(self._positions),
            height=self._log_y + _LOG_H,
            plot_y=self._plot_y,
            lanes=tuple(self._lanes.values()),
            steps=tuple(self._step(span, row) for span, row in self._steps),
            bands=tuple(self._band(band) for band in self._timeline.bands if band.state != "off"),
            calls=tuple(self._calls()),
            holds=tuple(self._hold(span) for span in self._timeline.spans if span.kind == "hold"),
            spots=tuple(self._spots()),
            samples=tuple(self._samples()),
            prints=tuple(self._prints()),
            boots=tuple(self._boots()),
            badges=tuple(self._badges()),
        )

    def _slot(self, position: int) -> float:
        """The left side of an event's slot, or of the next one that is shown."""
        return float(bisect_left(self._positions, position))

    def _middle(self, position: int) -> float:
        return self._slot(position) + 0.5

    def _step(self, span: Span, row: int) -> Box:
        end = span.outcome if span.ended else f"{span.outcome or 'no end'}, its end was not traced"
        x2 = self._middle(span.last) if span.ended else self._slot(span.last + 1)
        title = f"step {span.name}: {end}"
        y = self._head + row * _STEP_H
        text = f"{span.name}: {span.outcome}" if span.outcome else span.name
        return Box(self._middle(span.first), x2, y, _STEP_H - 5, "step", text, title, span.first)

    def _band(self, band: Band) -> Box:
        lane = self._lanes[band.cpu]
        kind = f"{band.state}{' inferred' if band.inferred and band.state == 'on' else ''}"
        words = {"on": "on", "on inferred": "on, to judge by what the kernel called", "unknown": "not known"}
        title = f"CPU {band.cpu}: virtualization {words[kind]}"
        text = "on" if band.state == "on" else "?"
        return Box(self._slot(band.first), self._slot(band.end), lane.y, lane.h, kind, text, title)

    def _calls(self) -> Iterator[Box]:
        for cpu, lane in self._lanes.items():
            own = [span for span in self._timeline.spans if span.kind == "call" and span.cpu == cpu]
            for span, row in _tracks(own):
                x, x2 = self._middle(span.first), self._middle(span.last)
                if row < _BARS and x2 > x:
                    y = lane.y + _BAR_Y + row * (_BAR_H + 2)
                    end = (
                        (f" = {span.outcome}" if span.outcome else "") if span.ended else ", its return was not seen"
                    )
                    title = f"{span.name}(){end}, by {span.task}-{span.pid}"
                    yield Box(x, x2, y, _BAR_H, "call" if span.ended else "call open", "", title, span.first)

    def _hold(self, span: Span) -> Box:
        lane = self._lanes[span.cpu]
        title = f"{span.task}-{span.pid} held at {span.name} on CPU {span.cpu}: {span.outcome}"
        x2 = self._middle(span.last) if span.ended else self._slot(span.last + 1)
        return Box(
            self._middle(span.first),
            x2,
            lane.y + 2,
            lane.h - 4,
            f"hold {span.outcome}",
            f"held at {span.name}",
            title,
            span.first,
        )

    def _spots(self) -> Iterator[Spot]:
        """Events in their CPU's lane; what was printed has a lane of its own."""
        events = self._timeline.events
        failed = {i for i, marks in self._timeline.marks.items() if any(m.finding is Finding.FAILED for m in marks)}
        wanted = [
            index
            for index in self._positions
            if events[index].phase not in ("begin", "end") and events[index].name != "console"
        ]
        room = self._with_room([index for index in wanted if _has_label(events[index])], failed)
        for index in wanted:
            event = events[index]
            yield Spot(
                self._middle(index),
                self._lanes[event.cpu].y,
                f"{event.phase} failed" if index in failed else event.phase,
                f"#{event.seq if event.seq is not None else '?'}",
                index,
                event.name if _has_label(event) else "",
                index in room,
                marked=index in self._timeline.marks,
            )

    def _with_room(self, wanted: Sequence[int], failed: set[int]) -> set[int]:
        """The events whose labels have room beside each other: violations first, then what is rarest."""
        events = self._timeline.events
        taken: dict[int, list[tuple[float, float]]] = {cpu: [] for cpu in self._lanes}
        for span in self._timeline.spans:
            if span.kind == "hold":
                start = self._middle(span.first) * self._scale
                taken[span.cpu].append((start, start + _CHAR * (len(span.name) + len("■ held at "))))
        often = Counter(events[index].name for index in wanted)
        alike: dict[tuple[int, str], list[float]] = defaultdict(list)
        room = set()
        for index in sorted(wanted, key=lambda index: (index not in failed, often[events[index].name], index)):
            start = self._middle(index) * self._scale
            letter = _CHAR * (_BOLD if index in failed else 1)
            end = start + letter * len(events[index].name) + _ROOM
            others = taken[events[index].cpu]
            same = alike[events[index].cpu, events[index].name]
            if (
                end <= WIDTH
                and all(abs(start - other) > _REPEAT for other in same)
                and all(end <= left or start >= right for left, right in others)
            ):
                others.append((start, end))
                same.append(start)
                room.add(index)
        return room

    def _place_samples(self) -> list[tuple[Sample, float, int]]:
        """Samples with their slots, and the lowest row in which their names have room."""
        rows = [-WIDTH] * _SAMPLE_ROWS
        placed = []
        for taken in sorted(self._timeline.samples, key=lambda taken: taken.before):
            slot = self._slot(taken.before)
            length = _CHAR * len(taken.sample.name)
            left = min(slot * self._scale - length / 2, WIDTH - length)
            row = next((row for row, free in enumerate(rows) if free < left), _SAMPLE_ROWS - 1)
            rows[row] = left + length + _ROOM
            placed.append((taken.sample, slot, row))
        return placed

    def _samples(self) -> Iterator[Spot]:
        for sample, slot, row in self._rows_of_samples:
            y = self._head - _TOP - row * _SAMPLE_ROW_H
            yield Spot(slot, y, "sample", _sample_title(sample), label=sample.name)

    def _prints(self) -> Iterator[Spot]:
        """What the kernel printed, with its clock where there is room for it."""
        lines: dict[int, LogLine] = self._timeline.log_of
        free = 0.0
        for index in self._positions:
            if index in lines:
                x = self._middle(index)
                line = lines[index]
                text = f"{line.time[:-3]} s" if line.time else ""
                room = x * self._scale >= free and x * self._scale + _CHAR * len(text) < WIDTH
                if room:
                    free = x * self._scale + _CHAR * len(text) + 2 * _ROOM
                yield Spot(x, self._log_y, "print", line.text, index, text, room)

    def _boots(self) -> Iterator[Spot]:
        events = self._timeline.events
        for index in range(1, len(events)):
            if events[index].boot != events[index - 1].boot:
                text = f"boot {events[index].boot}"
                yield Spot(self._slot(index), self._plot_y, "boot", text, index, text)

    def _badges(self) -> Iterator[Badge]:
        at = {id(event): index for index, event in enumerate(self._timeline.events)}
        seen = set()
        for claim in self._judgement.claims:
            for found in claim.findings:
                # What concerns the run as a whole stands at every claim.
                if found.finding is not Finding.FAILED or found.text in seen:
                    continue
                events = tuple(at[id(event)] for event in found.events if id(event) in at)
                if spots := tuple(self._where(found.expectation, events)):
                    seen.add(found.text)
                    yield Badge(len(seen), spots, claim.use.claim.id, found.text, events)

    def _where(self, expectation: Expectation | None, events: Sequence[int]) -> Iterator[tuple[float, float]]:
        """Where something failed: at events, in a sample, or at the end of steps."""
        if isinstance(expectation, (Virt, State)):
            yield from self._sample_spots(expectation)
        elif isinstance(expectation, ExitStatus):
            yield from self._step_spots(expectation)
        else:
            yield from map(self._event_spot, events)

    def _step_spots(self, expectation: ExitStatus) -> Iterator[tuple[float, float]]:
        for span, row in self._steps:
            if span.name in expectation.steps and span.outcome not in expectation.steps[span.name]:
                yield self._middle(span.last), self._head + row * _STEP_H + 7

    def _event_spot(self, index: int) -> tuple[float, float]:
        return self._middle(index), self._lanes[self._timeline.events[index].cpu].y + _BAR_Y + _BAR_H / 2

    def _sample_spots(self, expectation: Virt | State) -> Iterator[tuple[float, float]]:
        """Where a sample contradicts: on the lanes of the CPUs that are not as they should be."""
        taken = next((taken for taken in self._timeline.samples if taken.sample.name == expectation.at), None)
        if taken is None:
            return
        wrong = _wrong(expectation, taken.sample) if isinstance(expectation, Virt) else ()
        x = self._slot(taken.before)
        for cpu in wrong:
            if cpu in self._lanes:
                yield x, self._lanes[cpu].y + _BAR_Y + _BAR_H / 2
        if not wrong:
            yield x, self._head


def _has_label(event: Event) -> bool:
    return event.phase in ("call", "point")


def _wrong(expectation: Virt, sample: Sample) -> list[int]:
    """The CPUs whose state in a sample is not the expected one; an offline CPU need not be on."""
    if isinstance(expectation.on, list):
        return [cpu for cpu, on in sample.virt.items() if on is not (cpu in expectation.on)]
    if expectation.on == "none":
        return [cpu for cpu, on in sample.virt.items() if on]
    return [cpu for cpu in sample.online if not sample.virt.get(cpu, False)]


def _tracks(spans: Sequence[Span]) -> list[tuple[Span, int]]:
    """Each span with the first row in which it is alone."""
    rows: list[int] = []  # the position at which each row is free again
    placed = []
    for span in sorted(spans, key=lambda span: (span.first, -span.last)):
        row = next((row for row, free in enumerate(rows) if free < span.first), len(rows))
        rows[row : row + 1] = [span.last]
        placed.append((span, row))
    return placed


def _sample_title(sample: Sample) -> str:
    on = [str(cpu) for cpu, state in sample.virt.items() if state]
    return (
        f"sample {sample.name}: virtualization on on CPU {', '.join(on)}"
        if on
        else f"sample {sample.name}: virtualization off everywhere"
    )
