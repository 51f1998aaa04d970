"""Events as lanes: one column per CPU, time downwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.table import Table
from rich.text import Text

from harness.probes.event import Event, return_text
from harness.scenario.platform_events import FAILURES

_PHASE_SIGNS = {
    "call": "→ ",
    "return": "← ",
    "point": "· ",
    "begin": "┌ ",
    "end": "└ ",
    "held": "■ held at ",
    "released": "▶ released from ",
    "lost": "× lost at ",
}


def lanes(events: Sequence[Event], marked: Sequence[Event] = ()) -> Table:
    """A table of `events` (in the order given); those in `marked` stand out."""
    cpus = sorted({event.cpu for event in events})
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("seq", justify="right", style="dim")
    for cpu in cpus:
        table.add_column(f"CPU {cpu}", no_wrap=True)
    table.add_column("task", style="dim", no_wrap=True)
    for event in events:
        cells = [Text(describe(event)) if event.cpu == cpu else "" for cpu in cpus]  # no markup: [/x] is a message
        seq = "?" if event.seq is None else str(event.seq)
        table.add_row(seq, *cells, Text(f"{event.task}-{event.pid}"), style="bold red" if event in marked else None)
    return table


def describe(event: Event) -> str:
    """One event in a lane: `→ kvm_online_cpu`, `← kvm_online_cpu = -EIO`."""
    text = _PHASE_SIGNS[event.phase] + event.name
    if event.name == "console":
        return text + " " + str(event.args.get("text", ""))[:60]
    if event.name == "seamcall":  # its dozen operands are in the JSON
        outcome = next((event.args[name] for name in ("status", *FAILURES) if name in event.args), "")
        return f"{text} {event.args.get('leaf')} = {outcome}"
    if event.args:
        text += " " + " ".join(f"{name}={value}" for name, value in event.args.items())
    if event.ret is not None:
        text += f" = {return_text(event.errno_return or 0)}"
    return text


def brief(event: Event) -> str:
    """The same without how the CPU was when somebody was held: in evidence it counts who was held, and where."""
    bare = replace(event, args={}) if event.phase in ("held", "released", "lost") else event
    return describe(bare)


def task_of(event: Event) -> str:
    """Who an event is of: `guestctl-178`; a dash for a CPU that has no task yet."""
    return f"{event.task}-{event.pid}" if event.task or event.pid else "–"
