"""An event: something that the kernel under test did, at a place in a total order."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.scenario.kinds import Phase, Selector
from harness.scenario.platform_events import PLATFORM_EVENTS, SOURCE

EVENTS_LOG = "events.jsonl"  # in a run's folder: an event per line, in their order

_FAULT = "(fault)"


@dataclass(frozen=True)
class Event:
    """One traced event.

    `seq` orders the events of one boot, whatever the CPU; None means that the source has no total
    order for it. `ret` is the raw return register as a signed 64-bit number.
    """

    boot: int  # counts from 1
    seq: int | None
    cpu: int
    source: str  # tracefs, platform
    name: str
    phase: Phase
    task: str = ""
    pid: int = 0
    args: Mapping[str, str | int] = field(default_factory=dict)
    ret: int | None = None

    @property
    def order(self) -> tuple[int, int] | None:
        """Sort key across boots; None when the event is unordered."""
        return None if self.seq is None else (self.boot, self.seq)

    @property
    def errno_return(self) -> int | None:
        """The return value as the C `int` that kernel functions return: the low 32 bits, signed.

        The upper half of RAX is undefined for an int (System V ABI, section 3.2.3).
        """
        return None if self.ret is None else ((self.ret & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000

    def matches(self, selector: Selector) -> bool:
        """Whether `selector` selects this event."""
        wanted_phases = (selector.phase,) if selector.phase else ("call", "point", "held")
        return (
            self.name == selector.name
            and self.phase in wanted_phases
            and selector.cpu in (None, "each", self.cpu)
            and all(same_value(self.value(name), value) for name, value in selector.where.items())
        )

    def value(self, name: str) -> str | int | None:
        """An argument, or what every event has: task, pid, ret (as an errno). None for what it does not have."""
        if name in ("task", "pid"):
            return str(getattr(self, name))
        if name == "ret" and self.ret is not None:
            return self.errno_return
        return self.args.get(name)

    def unread(self, name: str) -> bool:
        """Whether this event has such an argument, or should have, and its value could not be read.

        Every event has a task, and a function its arguments: a probe that cannot read one leaves it out, or prints
        "(fault)" for it (kernel/trace/trace_probe.c). What the platform sees by itself has arguments that depend.
        """
        if name in ("task", "pid"):
            return self.source == SOURCE and not self.task
        if name in self.args:
            return self.args[name] == _FAULT
        return self.phase in ("call", "point") and self.name not in PLATFORM_EVENTS

    def to_json(self) -> dict[str, Any]:
        """The event as one line of EVENTS_LOG, without what is empty."""
        return {key: value for key, value in asdict(self).items() if value not in (None, {}, "") or key == "seq"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Event:
        """The inverse of `to_json`."""
        return cls(**data)


def return_text(value: int) -> str:
    """A return value for a person: -EIO for -5, else the number."""
    return f"-{errno.errorcode[-value]}" if -value in errno.errorcode else str(value)


def same_value(found: str | int | None, wanted: str | int) -> bool:
    """Compares as numbers (0x10 is 16) where both are numbers, else as text."""
    if found is None:
        return False
    try:
        return int(str(found), 0) == int(str(wanted), 0)
    except ValueError:
        return str(found) == str(wanted)
