"""A run as a timeline: what lasted from where to where, in the one order that all events have.

Positions are indices into `events`. The order says nothing about time; where the kernel printed something, its own
clock tells.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.judge.record import RunRecord
from harness.judge.verdict import Finding, Judgement
from harness.observe.sample import Sample
from harness.probes.event import Event, return_text
from harness.scenario.check import asleep_sample
from harness.scenario.steps import Hold, Release, Step, Suspend, Until
from harness.scenario.steps import Sample as SampleStep

SpanKind = Literal["call", "hold", "step"]
BandState = Literal["on", "off", "unknown"]

_CR4_VMXE = 1 << 13  # Intel SDM vol. 3, 2.5
_LOG_LINE = re.compile(r"^\W*?(?:\S*# .*?)?\[\s*(\d+\.\d+)\] (.*)$")
_BANNER = re.compile(r"\] Linux version \S+")
# Two CPUs that print at once may be traced in one order and logged in the other.
_LOG_SLACK = 8


@dataclass(frozen=True)
class Span:
    """Something that lasted, from position `first` to `last`; `ended` is false where its end was not seen."""

    kind: SpanKind
    name: str
    boot: int
    cpu: int
    task: str
    pid: int
    first: int
    last: int
    ended: bool
    outcome: str = ""  # -EIO of a call, released of a hold, EBUSY of a step


@dataclass(frozen=True)
class Band:
    """Whether virtualization was on, on a CPU, from the event at `first` to before that at `end`.

    `inferred` says that no event tells the state itself: it follows from what the kernel called.
    """

    cpu: int
    first: int
    end: int
    state: BandState
    inferred: bool


@dataclass(frozen=True)
class Taken:
    """A sample, and where in the order it was taken: before the event at `before`."""

    sample: Sample
    before: int


@dataclass(frozen=True)
class Mark:
    """What a finding says of an event."""

    finding: Finding
    claim: str
    text: str


@dataclass(frozen=True)
class LogLine:
    """A line of console.log (from 0), with the kernel's clock in seconds, and the event that is its printing."""

    number: int
    boot: int
    time: str
    text: str
    event: int | None = None


@dataclass(frozen=True)
class Timeline:
    """All that a drawing of a run needs."""

    events: tuple[Event, ...]
    cpus: tuple[int, ...]
    spans: tuple[Span, ...]
    bands: tuple[Band, ...]
    samples: tuple[Taken, ...]
    log: tuple[LogLine, ...]
    marks: Mapping[int, tuple[Mark, ...]] = field(default_factory=dict)

    @property
    def boots(self) -> list[int]:
        return sorted({event.boot for event in self.events})

    @property
    def log_of(self) -> dict[int, LogLine]:
        """The log line that each printing event printed."""
        return {line.event: line for line in self.log if line.event is not None}


def timeline(record: RunRecord, judgement: Judgement) -> Timeline:
    """The timeline of a judged record."""
    events = record.events
    samples = tuple(_samples(record))
    cpus = {
        *record.online,
        *(event.cpu for event in events),
        *(cpu for taken in samples for cpu in taken.sample.virt),
    }
    return Timeline(
        events=events,
        cpus=tuple(sorted(cpus)),
        spans=tuple(sorted([*_calls(events), *_holds(events), *_steps(record)], key=lambda span: span.first)),
        bands=tuple(band for cpu in sorted(cpus) for band in _bands(cpu, events, samples)),
        samples=samples,
        log=tuple(_log(record.console.lines, events)),
        marks=_marks(events, judgement),
    )


def _marks(events: Sequence[Event], judgement: Judgement) -> dict[int, tuple[Mark, ...]]:
    # Findings carry the record's own events; equal ones are not the same.
    positions = {id(event): index for index, event in enumerate(events)}
    marks: dict[int, list[Mark]] = defaultdict(list)
    for claim in judgement.claims:
        for found in claim.findings:
            for event in found.events:
                if id(event) in positions:
                    marks[positions[id(event)]].append(Mark(found.finding, claim.use.claim.id, found.text))
    return {index: tuple(found) for index, found in marks.items()}


# --- what lasts -----------------------------------------------------------------------------------------------


def _ends(events: Sequence[Event]) -> dict[int, int]:
    """The position of each boot's last event."""
    return {event.boot: index for index, event in enumerate(events)}


def _calls(events: Sequence[Event]) -> Iterator[Span]:
    """Calls with their returns. A task's calls nest, whatever CPUs it runs on; an idle task is one per CPU.

    A call whose return was not seen lasts as long as what called it.
    """
    stacks: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for index, event in enumerate(events):
        stack = stacks[event.boot, event.pid, event.cpu if event.pid == 0 else -1]
        if event.phase == "call":
            stack.append(index)
        elif event.phase == "return" and any(events[call].name == event.name for call in stack):
            while events[call := stack.pop()].name != event.name:
                yield _call(events, call, index, None)
            yield _call(events, call, index, event)
    ends = _ends(events)
    for stack in stacks.values():
        for call in stack:
            yield _call(events, call, ends[events[call].boot], None)


def _call(events: Sequence[Event], first: int, last: int, returned: Event | None) -> Span:
    event = events[first]
    value = "" if returned is None or returned.ret is None else return_text(returned.errno_return or 0)
    return Span(
        "call",
        event.name,
        event.boot,
        event.cpu,
        event.task,
        event.pid,
        first,
        last,
        ended=returned is not None,
        outcome=value,
    )


def _holds(events: Sequence[Event]) -> Iterator[Span]:
    ends = _ends(events)
    for index, event in enumerate(events):
        if event.phase != "held":
            continue
        end = next((at for at in range(index + 1, len(events)) if _lets_go(events[at], event)), None)
        last = ends[event.boot] if end is None else end
        outcome = "held to the end of the boot" if end is None else events[end].phase
        yield Span(
            "hold", event.name, event.boot, event.cpu, event.task, event.pid, index, last, end is not None, outcome
        )


def _lets_go(event: Event, held: Event) -> bool:
    return event.name == held.name and event.boot == held.boot and event.phase in ("released", "lost")


def _steps(record: RunRecord) -> Iterator[Span]:
    """Steps and actors, by the marks that they leave in the trace."""
    open_steps: dict[str, int] = {}
    ends = _ends(record.events)
    for index, event in enumerate(record.events):
        if event.phase == "begin":
            open_steps[event.name] = index
        elif event.phase == "end" and event.name in open_steps:
            yield _step(record, open_steps.pop(event.name), index, ended=True)
    for first in open_steps.values():
        yield _step(record, first, ends[record.events[first].boot], ended=False)


def _step(record: RunRecord, first: int, last: int, ended: bool) -> Span:
    event = record.events[first]
    outcome = record.outcomes.get(event.name)
    result = outcome.result if outcome is not None else ""
    return Span("step", event.name, event.boot, event.cpu, event.task, event.pid, first, last, ended, result)


# --- where samples were taken -----------------------------------------------------------------------------------


def _samples(record: RunRecord) -> Iterator[Taken]:
    """Each sample after the step before it, and after whatever the kernel had printed until then."""
    ends = _ends(record.events)
    after = {boot: _ready(record.events, boot, end) for boot, end in ends.items()}  # the last position surely before
    steps = {step.id: step for step in record.scenario.steps}
    places: dict[str, int] = {}
    for outcome in record.outcomes.values():
        step = steps.get(outcome.id)
        before = after.get(outcome.boot, -1)
        if isinstance(step, SampleStep):
            places[step.name] = before
        elif step is not None:
            after[outcome.boot] = max(before, _done(step, outcome.boot, record.events))
        if isinstance(step, Suspend):
            places[asleep_sample(step.id)] = after[outcome.boot]
    for sample in record.samples.values():
        end = ends.get(sample.boot, len(record.events) - 1)
        place = places.get(sample.name, end)
        yield Taken(sample, max(place, _printed(sample, place, record.events)) + 1)


def _ready(events: Sequence[Event], boot: int, end: int) -> int:
    """The position of the last event before a boot's first step."""
    for index in range(end + 1):
        if events[index].boot == boot and events[index].phase in ("begin", "end"):
            return index if events[index].phase == "end" else index - 1
    return end


def _done(step: Step, boot: int, events: Sequence[Event]) -> int:
    """The position of the event with which a step was done; -1 for one that leaves none."""
    wanted = {(step.id, "end")}
    if isinstance(step, Hold):
        wanted = {(step.point, "held")}
    elif isinstance(step, Release):
        wanted = {(step.point, "released"), (step.point, "lost")}
    elif isinstance(step, Until) and step.actor:
        wanted = {(step.actor, "end")}
    found = (i for i, event in enumerate(events) if event.boot == boot and (event.name, event.phase) in wanted)
    return max(found, default=-1)


def _printed(sample: Sample, after: int, events: Sequence[Event]) -> int:
    """The position of the last message in a sample that was printed behind `after`; -1 for none."""
    texts = {found[2] for line in sample.console if (found := _LOG_LINE.match(line))}
    return max(
        (
            index
            for index in range(after + 1, len(events))
            if events[index].boot == sample.boot
            and events[index].name == "console"
            and events[index].args.get("text") in texts
        ),
        default=-1,
    )


# --- virtualization -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Told:
    """Evidence of a CPU's state from position `at` on: by the event there, or by a sample before it (`seen`)."""

    at: int
    on: bool
    seen: bool
    inferred: bool


def _bands(cpu: int, events: Sequence[Event], samples: Sequence[Taken]) -> Iterator[Band]:
    """From the kernel's writes to CR4 where the emulated platform shows them, else from what the kernel called."""
    exact = any(event.name == "cr4" for event in events)
    starts = [0, *(i for i in range(1, len(events)) if events[i].boot != events[i - 1].boot), len(events)]
    for first, end in itertools.pairwise(starts):
        if first < end:
            told = sorted(_told(cpu, events, samples, first, end, exact), key=lambda one: (one.at, one.seen))
            yield from _boot_bands(cpu, first, end, told)


def _told(
    cpu: int, events: Sequence[Event], samples: Sequence[Taken], first: int, end: int, exact: bool
) -> Iterator[_Told]:
    for index in range(first, end):
        event = events[index]
        if event.cpu == cpu and (on := _turned(event, exact)) is not None:
            yield _Told(index, on, seen=False, inferred=not exact)
    for taken in samples:
        if first < taken.before <= end and cpu in taken.sample.virt and taken.sample.boot == events[first].boot:
            yield _Told(taken.before, taken.sample.virt[cpu], seen=True, inferred=False)


def _turned(event: Event, exact: bool) -> bool | None:
    """What an event says about its CPU; None for nothing."""
    if event.name == "cpu_reset":
        return False
    if event.name == "cr4" and "fault" not in event.args:
        return bool(int(str(event.args.get("new", 0)), 0) & _CR4_VMXE)
    if exact or event.phase != "return":
        return None
    if event.name == "vendor_enable":
        return True if event.errno_return == 0 else None
    return False if event.name == "vendor_disable" else None


def _boot_bands(cpu: int, first: int, end: int, told: Sequence[_Told]) -> Iterator[Band]:
    """Bands of one boot. A sample that differs from what was last told shows that something went unseen."""
    # What turns it on, or is seen off, had it off before.
    before = bool(told) and (not told[0].seen or not told[0].on)
    state: BandState = "off" if before else "unknown"
    inferred = True
    begin = first
    for one in told:
        now: BandState = "on" if one.on else "off"
        if now == state:
            inferred = inferred and one.inferred
            continue
        if one.at > begin:
            yield Band(cpu, begin, one.at, "unknown" if one.seen else state, inferred)
        state, inferred, begin = now, one.inferred, one.at
    if begin < end:
        yield Band(cpu, begin, end, state, inferred)


# --- the kernel log ---------------------------------------------------------------------------------------------


def _log(lines: Iterable[str], events: Sequence[Event]) -> Iterator[LogLine]:
    """The lines of console.log, those of the traced printings with their events."""
    parsed = list(_parsed(lines))
    where: dict[tuple[int, str], list[int]] = defaultdict(list)
    for at, line in enumerate(parsed):
        where[line.boot, line.text].append(at)
    linked: dict[int, int] = {}
    reached: dict[int, int] = defaultdict(int)
    for index, event in enumerate(events):
        # A line that is printed in parts ends with an empty one, which would pass for any empty line.
        if event.name != "console" or not (text := str(event.args.get("text", ""))):
            continue
        candidates = where[event.boot, text]
        found = next((at for at in candidates if at >= reached[event.boot] - _LOG_SLACK and at not in linked), None)
        if found is not None:
            linked[found] = index
            reached[event.boot] = max(reached[event.boot], found)
    for at, line in enumerate(parsed):
        yield LogLine(line.number, line.boot, line.time, line.text, linked.get(at))


def _parsed(lines: Iterable[str]) -> Iterator[LogLine]:
    boot = 0
    for number, line in enumerate(lines):
        boot += bool(_BANNER.search(line))
        found = _LOG_LINE.match(line)
        time, text = (found[1], found[2]) if found else ("", line)
        yield LogLine(number, max(boot, 1), time, text)
