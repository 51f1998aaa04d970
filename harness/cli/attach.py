"""`harness attach` and `harness stop`: live runs, from another terminal."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import click

from harness import progress
from harness.cli import complete
from harness.cli.interactive import console, monitor
from harness.deadline import Deadline
from harness.errors import HostFault, UsageError
from harness.visit import Visitor, live_run, live_runs

_END_S = 60.0  # for a run that is stopped to end its QEMU; 1 s on an idle host
_LOOK_S = 0.1


@click.command()
@click.argument("run", required=False, shell_complete=complete.live)
@click.argument("command", nargs=-1)
@click.option("--console", "way", flag_value="console", default=True, help="The guest's console (Ctrl-] leaves).")
@click.option("--ssh", "way", flag_value="ssh", help="A shell in the guest, or COMMAND there.")
@click.option("--hmp", "way", flag_value="hmp", help="QEMU's monitor for people (Ctrl-] leaves).")
@click.option("--qmp", "way", flag_value="qmp", help="QEMU's monitor for programs.")
@click.option("--gdb", "way", flag_value="gdb", help="Print the command of a debugger, with the kernel's symbols.")
@click.option(
    "--dump", type=click.Path(path_type=Path), metavar="FILE", help="Write the guest's memory as an ELF core."
)
def attach(run: str | None, command: tuple[str, ...], way: str, dump: Path | None) -> int:
    """Get into a guest whose run is going on, or is kept; without RUN, list those.

    RUN is the name of its folder, or a part of that which no other has. A run that is going on does not wait for
    you: what you do in its guest is part of it, and a debugger stops its clock but not its deadlines.

    \b
    harness attach
    harness attach demo-debian-6.12
    harness attach demo-debian-6.12 --ssh
    harness attach demo-debian-6.12 --ssh -- dmesg -w
    harness attach demo-debian-6.12 --hmp
    echo 'info registers -a' | harness attach demo-debian-6.12 --hmp
    $(harness attach demo-debian-6.12 --gdb)
    harness attach demo-debian-6.12 --dump memory.elf
    """
    if run is None:
        _list(live_runs())
        return 0
    visitor = live_run(run)
    if command and way != "ssh":
        raise UsageError("a command is for --ssh", hint=f"harness attach {run} --ssh -- {' '.join(command)}")
    if dump is not None:
        visitor.ask("dump", path=str(dump.absolute()))
        progress.note(f"{dump}: {dump.stat().st_size >> 20} MiB")
    else:
        _enter(visitor, way, command)
    return 0


def _enter(visitor: Visitor, way: str, command: tuple[str, ...]) -> None:
    if way == "ssh":
        about = visitor.ask("info")
        words = about["ssh"]
        if not words:
            raise UsageError(f"nobody answers by ssh: the machine is {about['machine']}", hint="--hmp, --gdb, --dump")
        os.execvp(words[0], [*words, *command])
    elif way == "gdb":
        print(visitor.ask("gdb")["command"])
    elif way == "console":
        progress.note("Ctrl-] leaves")
        console(visitor)
    else:
        monitor(visitor.ask("socket", kind=way)["socket"])


@click.command()
@click.argument("run", shell_complete=complete.live)
def stop(run: str) -> int:
    """End a run that is kept for inspection: its guest, and the wait of the command that ran it.

    RUN is what `harness attach` lists.
    """
    visitor = live_run(run)
    visitor.ask("stop")
    deadline = Deadline.after(_END_S, f"the end of {visitor.name}")
    while visitor.place.exists():
        deadline.check()
        deadline.pause(_LOOK_S)
    return 0


def _list(runs: list[Visitor]) -> None:
    for visitor in runs:
        with contextlib.suppress(HostFault):  # it has just ended
            about = visitor.ask("info")
            since = time.strftime("%H:%M:%S", time.localtime(visitor.since))
            print(f"{visitor.name}  {about['state']}, {about['machine']}, since {since}, process {visitor.pid}")
    if not runs:
        progress.note("no run is going on, and none is kept; `harness run --keep` keeps one")
