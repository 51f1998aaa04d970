"""A run that does not end with its guest: it waits until somebody has looked at it."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import Literal, get_args

from harness import progress
from harness.errors import HarnessError
from harness.judge.verdict import Verdict
from harness.report.result import RunResult
from harness.run.door import Door

AFTERWARDS = "console-kept.log"

PauseOn = Literal["end", "violated", "not-exercised", "fault"]
PAUSES: tuple[PauseOn, ...] = get_args(PauseOn)

_VERDICTS: dict[Verdict, PauseOn] = {
    Verdict.VIOLATED: "violated",
    Verdict.NOT_EXERCISED: "not-exercised",
    Verdict.HARNESS_FAULT: "fault",
}


def reason(wanted: frozenset[PauseOn], result: RunResult) -> str:
    """Why a run that came to `result` is kept; "" when it is not. `end`: whatever it came to."""
    verdicts = list(dict.fromkeys(claim.verdict for claim in result.judgement.claims))
    met = [verdict.value for verdict in verdicts if _VERDICTS.get(verdict) in wanted]
    if not met and "fault" in wanted and result.fault:
        met = ["fault"]
    if not met and "end" in wanted:
        met = [verdict.value for verdict in verdicts]
    return ", ".join(met)


def inspect(door: Door, why: str) -> None:
    """Says how to reach the guest, and waits until somebody stops the run; Ctrl-C here does that too."""
    for line in _how_to_reach(door, why):
        progress.note(line)
    with contextlib.suppress(KeyboardInterrupt), progress.task(f"kept for inspection: {door.name}"):
        door.keep(why)


def set_apart(console: Path, size: int) -> None:
    """Moves what the console said behind its first `size` bytes into a file of its own.

    What somebody did to a guest that was kept is no part of the run: judged again, its oopses would be the kernel's.
    """
    said = console.read_bytes()[size:]
    if said:
        (console.parent / AFTERWARDS).write_bytes(said)
        os.truncate(console, size)


def _how_to_reach(door: Door, why: str) -> list[str]:
    about = door.about()
    return [
        f"{door.name} is kept ({why}), {about['machine']}; harness {about['pid']}, QEMU {about['qemu']}",
        f"  console  harness attach {door.name}",
        f"  ssh      {shlex.join(about['ssh']) or 'nobody answers'}",
        f"  monitor  harness attach {door.name} --hmp    (--qmp)",
        f"  gdb      {_gdb(door)}",
        f"  memory   harness attach {door.name} --dump FILE    (docs/inspect.md: drgn)",
        f"  end      harness stop {door.name}    (or Ctrl-C here)",
    ]


def _gdb(door: Door) -> str:
    """The command of gdb, or why there is none."""
    try:
        return door.gdb()
    except HarnessError as error:
        return error.what
