"""Events on the display while they happen, for those who want to know everything (-v)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from harness import progress
from harness.display import Level
from harness.machine.machine import Machine
from harness.machine.state import State
from harness.probes.event import Event, return_text
from harness.run.events import EventLog

_CONSOLE = "console"  # the tracepoint printk:console
_LOOK_S = 0.2  # between looks at the files that events are written to


@contextlib.contextmanager
def narrated(log: EventLog, machine: Machine) -> Iterator[None]:
    """Tells each event of `machine` that is written during the block."""
    if progress.level() is not Level.VERBOSE:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_narrate, args=(log, machine, over), name="narrator", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _narrate(log: EventLog, machine: Machine, over: threading.Event) -> None:
    position = log.position()
    while True:
        last = over.wait(_LOOK_S)
        boot = 1 if machine.state is State.CREATED else machine.boot.number
        events, position = log.news(position, boot)
        for event in events:
            if not _is_mark(event):
                progress.detail(line(event))
        if last:
            return


def _is_mark(event: Event) -> bool:
    """Whether it is the harness's own: a step's begin and end are told anyway."""
    return event.phase in ("begin", "end") or str(event.args.get("text", "")).startswith("harness: ")


def line(event: Event) -> str:
    """`CPU 1  kvm_online_cpu.return = 0  modprobe-143`; a line of the kernel log as it is."""
    if event.name == _CONSOLE:
        return f"CPU {event.cpu}  | {event.args.get('text', '')}"
    phase = "" if event.phase in ("call", "point") else f".{event.phase}"
    ret = "" if event.errno_return is None else f" = {return_text(event.errno_return)}"
    args = "".join(f" {name}={value}" for name, value in event.args.items())
    task = f"  {event.task}-{event.pid}" if event.task else ""
    return f"CPU {event.cpu}  {event.name}{phase}{ret}{args}{task}"
