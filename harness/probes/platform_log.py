"""Events from the emulated platform: the file that QEMU's plugin writes, and its place beside the guest's own trace.

Each line has the plugin's own order (`seq`) and the value that the guest's trace clock had (`counter`, 0 before the
tracer was set up). The clock is a counter that every event of the tracer increments (harness/probes/tracefs.py), so
what the plugin saw at C comes after the tracer's event C and before its event C+1: one order over both sources.

A CPU in real mode has no kernel addresses: neither clock nor task can be read for its events (sipi, cpu_reset). Such
an event lies somewhere between its neighbours in the plugin's order; where the clock went on in between, it is
unordered.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.platform.tdx import leaf_name, status_name
from harness.probes.event import Event
from harness.probes.fetch import Fetch
from harness.scenario.platform_events import FAILURES, SOURCE

_U64 = (1 << 64) - 1
_LOST = ("lost", "point")  # the plugin's word for a return that it could not wait for
_END = 1 << 62  # a place after everything else in a boot

# How the arguments of each probe are to be printed: probe -> argument -> what was asked for.
Fetches = Mapping[str, Mapping[str, Fetch]]


@dataclass
class PlatformTrace:
    """What the plugin saw of the kernels under test, in its order.

    `seq` of an event is the guest's counter still; None for one that is unordered.
    """

    events: list[Event] = field(default_factory=list)
    lost: dict[int, int] = field(default_factory=dict)  # boot -> missing lines, and returns that the plugin gave up

    def lose(self, boot: int, count: int) -> None:
        if count:
            self.lost[boot] = self.lost.get(boot, 0) + count


def parse_platform(
    lines: Iterable[str], fetches: Fetches, void: Collection[str] = (), source: str = SOURCE
) -> PlatformTrace:
    """Parses the plugin's file, or another of its format. What RAX has after a function of `void` is no value.

    Left out are the firmware before the first kernel (boot 0) and whatever a crash kernel does: it is another start
    of a kernel in the same boot, with a clock of its own, and would pass for the kernel that crashed.
    """
    trace = PlatformTrace()
    kernel_of: dict[int, int] = {}  # boot -> the first start of a kernel in it
    held: dict[str, Event] = {}  # point -> the last task that was held at it
    unread: set[int] = set()  # which of the events have no clock of their own
    boot = clock = 0
    last: int | None = None
    for raw in _objects(lines):
        missing = 1 if raw is None else 0 if last is None else raw["seq"] - last - 1
        trace.lose(boot, missing)
        if raw is None:
            last = None if last is None else last + 1
            continue
        last = raw["seq"]
        if raw["boot"] != boot:
            boot, clock = raw["boot"], 0
        if not boot or kernel_of.setdefault(boot, raw["inc"]) != raw["inc"]:
            continue
        if (raw["name"], raw["phase"]) == _LOST:
            trace.lose(boot, 1)
            continue
        clock = max(clock, raw["counter"])
        event = _event(raw, clock, fetches, source)
        if event.phase == "held":
            held[event.name] = event
        if event.phase == "lost":
            # Told when the next kernel starts, about a task that was there up to the end of this one.
            event = _lost_at_the_end(held.get(event.name, event))
        trace.events.append(dataclasses.replace(event, ret=None) if event.name in void else event)
        if not raw["counter"] and "task" not in raw and event.phase != "lost":
            unread.add(len(trace.events) - 1)
    _doubt(trace.events, unread)
    return trace


def untold_losses(events: Sequence[Event], lost: Collection[str]) -> list[Event]:
    """The events of points whose task was `lost` with the machine, and no next kernel started to tell of it."""
    told = {event.name for event in events if event.phase == "lost"}
    held = {event.name: event for event in events if event.phase == "held" and event.name in lost}
    return [_lost_at_the_end(event) for name, event in held.items() if name not in told]


def _lost_at_the_end(held: Event) -> Event:
    return dataclasses.replace(held, phase="lost", seq=_END)


def _doubt(events: list[Event], unread: Collection[int]) -> None:
    """Takes their place from the events of which the clock was not read, unless it stood still around them."""
    following = None
    for at in reversed(range(len(events))):
        if at not in unread:
            following = events[at].order
        elif events[at].order != following:
            events[at] = dataclasses.replace(events[at], seq=None)


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any] | None]:
    """The lines' objects; None for a line that is none."""
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            yield None


def _event(raw: Mapping[str, Any], clock: int, fetches: Fetches, source: str) -> Event:
    name, args, ret = raw["name"], dict(raw.get("args", {})), raw.get("ret")
    args |= {failure: raw[failure] for failure in FAILURES if failure in raw}
    if name == "seamcall":
        args["leaf"] = leaf_name(args["leaf"] & _U64)
        if ret is not None:
            args["status"] = status_name(ret & _U64)
    wanted = fetches.get(name, {})
    return Event(
        boot=raw["boot"],
        seq=clock,
        cpu=raw["cpu"],
        source=source,
        name=name,
        phase=raw["phase"],
        task=raw.get("task", ""),
        pid=raw.get("pid", 0),
        args={key: wanted[key].text(value) if key in wanted else value for key, value in args.items()},
        ret=ret,
    )


def merge(*sources: Sequence[Event]) -> list[Event]:
    """One order over all sources: `seq` is an event's place in it, from 1 in each boot. Unordered ones come last.

    Where the clock is the same they come in the order of the sources: tracefs first, which has made it what it is.
    """

    def place(event: Event) -> tuple[int, int]:
        return (event.boot, event.seq or 0)

    events = list(itertools.chain.from_iterable(sources))
    merged = []
    boot = rank = 0
    for event in sorted(
        (one for one in events if one.seq is not None), key=place
    ):  # stable: each source's order stays
        rank = rank + 1 if event.boot == boot else 1
        boot = event.boot
        merged.append(dataclasses.replace(event, seq=rank))
    return merged + [event for event in events if event.seq is None]
