"""The in-guest tracer at work: armed in every boot, finished where the boot lets it.

What it writes is streamed to the host. Some of it cannot be, and stays in the guest's ring buffer until it is read
out of the guest's memory: what is traced when no task of the guest lives to read it; and, on a KVM whose own CPUs are
emulated, what could go by the serial line only. There a byte takes 1.7 ms on it, and one suspend's trace 90 s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HostFault
from harness.guest.session import Session
from harness.guest.ssh import CommandResult
from harness.machine.state import State
from harness.probes import tracefs
from harness.probes.functions import FunctionProbes
from harness.probes.leftover import LeftoverReader
from harness.probes.trace_format import TraceFormat, parse_formats
from harness.probes.tracefs import KernelProbe

_ALL = "TRACE"  # names the mark that ends a boot's trace; no id of a step is in capitals

# In the run's folder. What QEMU writes the guest's two ways out to: virtio-serial, and a serial line for the end of
# a boot; what was left over in the guest's memory at the ends of boots; and what was traced in a run's prelude.
_LEFTOVER = "trace-leftover.txt"
BEFORE = "trace-before.txt"
STREAMS = ("trace.txt", "trace-last.txt", _LEFTOVER, BEFORE)

_REST = 3  # times as long as the last look, before the next

# The guest does nothing more, and its memory is as the kernel left it.
_ENDS = frozenset({State.RESET, State.OFF, State.PANICKED})


def prepare(session: Session, deadline: Deadline) -> None:
    """Sets up what the traces of all runs have in common. Raises HostFault when the kernel lacks something of it."""
    if blind := _refused(_must(session, tracefs.prepare_script(), deadline)):
        raise HostFault(
            f"the kernel cannot trace {', '.join(blind)}",
            expected=f"the tracepoints {', '.join(tracefs.STANDARD_TRACEPOINTS)}",
        )


def _must(session: Session, script: str, deadline: Deadline) -> CommandResult:
    done = session.run(script, deadline)
    if done.status != 0:
        raise HostFault(
            "the tracer could not be armed", found=done.output, hint="the kernel needs CONFIG_KPROBE_EVENTS"
        )
    return done


def _refused(done: CommandResult) -> list[str]:
    return [line.removeprefix("refused ") for line in done.stdout.splitlines() if line.startswith("refused ")]


@dataclass
class Tracer:
    """Probes and the stream that they feed. `lost` and `complete` are per boot, as the judge wants them.

    `functions` are probes on the emulated platform, where there is one: those need no arming.
    """

    probes: Sequence[KernelProbe]
    folder: Path  # the run's, with the files STREAMS
    functions: FunctionProbes | None = None
    # None of a kernel that does not tell where its ring buffer is. Asked at the end of a boot: it takes 0.3 s.
    leftover: Callable[[], LeftoverReader | None] = lambda: None
    lost: dict[int, int] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    _on_serial_line: set[int] = field(default_factory=set)
    _kept: set[int] = field(default_factory=set)  # boots of whose trace the rest is in the guest, and nowhere else
    _taken: set[tuple[int, str]] = field(default_factory=set)  # with their boot: lines of it that were taken already
    _next_look: float = 0.0  # on the monotonic clock
    _formats: dict[int, dict[int, TraceFormat]] = field(default_factory=dict)  # by boot

    def arm(self, session: Session, deadline: Deadline) -> dict[str, str]:
        """Arms the probes in the present boot. Returns the names of those that are refused, each with the reason.

        Raises HostFault when the kernel has no tracer, or the platform did not see it begin.
        """
        boot = session.machine.boot
        if not boot.restored:  # else both were done before it was saved
            if self.functions is not None:
                self.functions.require_begun()
            prepare(session, deadline)
        done = session.note_online(_must(session, tracefs.arm_script(boot.number, self.probes), deadline))
        self._formats[boot.number] = parse_formats(done.stdout)
        reasons = dict.fromkeys(_refused(done), "the kernel refuses a probe there")
        return reasons | (self.functions.refused if self.functions else {})

    def finish(self, session: Session, deadline: Deadline) -> None:
        """Ends the trace of a boot that is still alive: all that was traced is then in the run's folder."""
        boot = session.machine.boot.number
        done = session.run(tracefs.finish_script(_ALL), deadline)
        if boot in self._kept:
            self.look(session, deadline)
            self.complete.add(boot)
            return
        self.lost[boot] = tracefs.parse_lost(done.stdout)
        last = tracefs.mark("end", _ALL)
        while not self._streamed(boot, last):
            deadline.check("the guest's trace does not arrive")
            deadline.pause(0.02)
        self.complete.add(boot)

    def outlast_suspend(self, session: Session, deadline: Deadline) -> None:
        """Prepares for a suspend, after which a virtio device may be of no use."""
        if session.machine.emulator and self.leftover() is not None:
            self._keep(session, deadline)
        else:
            self._use_serial_line(session, deadline)

    def look(self, session: Session, deadline: Deadline, again: bool = False) -> None:
        """Takes what a guest that runs has kept of its trace so far; does nothing where it is streamed.

        `again`: nor before the guest had some time since the last look, in which it stood still.
        """
        machine = session.machine
        began = time.monotonic()
        due = began >= self._next_look or not again
        if due and machine.boot.number in self._kept and machine.state is State.RUNNING:
            machine.pause(deadline)
            self.take_leftover(session, deadline)
            if machine.state not in _ENDS:  # it may have come there meanwhile
                machine.resume(deadline)
            ended = time.monotonic()
            self._next_look = ended + _REST * (ended - began)

    def _use_serial_line(self, session: Session, deadline: Deadline) -> None:
        """Moves the stream of the present boot to the serial line; once is enough."""
        boot = session.machine.boot.number
        if boot not in self._on_serial_line:
            session.run(tracefs.move_script(boot), deadline)
            self._on_serial_line.add(boot)
            self._kept.discard(boot)

    def _keep(self, session: Session, deadline: Deadline) -> None:
        """Ends the stream of the present boot: what comes stays in the ring buffer. Once is enough."""
        boot = session.machine.boot.number
        if boot not in self._kept:
            session.run(tracefs.stop_script(), deadline)
            self._kept.add(boot)

    def follow_to_the_end(self, session: Session, deadline: Deadline) -> None:
        """Prepares for an end of the boot of which only what was streamed will remain."""
        self._use_serial_line(session, deadline)
        session.run(tracefs.slow_messages_script(emulated_kvm=bool(session.machine.emulator)), deadline)

    def leave_the_rest(self, session: Session, deadline: Deadline, streaming: bool = False) -> None:
        """Prepares for an end of the boot at which the machine will stand still: what comes may stay in the guest.

        `streaming`: it is still waited for, by steps that go on meanwhile.
        """
        if self.leftover() is None:
            self.follow_to_the_end(session, deadline)
        elif streaming and not session.machine.emulator:
            self._use_serial_line(session, deadline)
        else:
            self._keep(session, deadline)

    def take_leftover(self, session: Session, deadline: Deadline) -> None:
        """Takes what was not streamed of a boot whose guest stands still; does nothing for any other.

        The ring buffer counts what was written to it: what neither arrived nor is left over is lost. With the guest
        at its end, the boot's trace is complete.
        """
        machine = session.machine
        boot = machine.boot.number
        over = machine.state in _ENDS or session.halted
        standing = over or machine.state is State.STOPPED
        if not standing or boot in self.complete or boot not in self._formats:
            return
        reader = self.leftover()
        if reader is None:
            return
        left = reader.read(machine, self._formats[boot], deadline)
        with (self.folder / _LEFTOVER).open("a") as file:
            new = [line for line in left.lines if (boot, line) not in self._taken]
            file.writelines(f"{line}\n" for line in (tracefs.section(boot), *new))
            self._taken.update((boot, line) for line in new)
        missing = left.written - self.parse().arrived.get(boot, 0)
        self.lost[boot] = left.lost + max(0, missing)
        if over:
            self.complete.add(boot)

    def parse(self) -> tracefs.Trace:
        """All that has arrived so far."""
        texts = [path.read_text(errors="replace") for name in STREAMS if (path := self.folder / name).exists()]
        return tracefs.parse_trace(line for text in texts for line in text.splitlines())

    def _streamed(self, boot: int, mark: str) -> bool:
        with (self.folder / STREAMS[boot in self._on_serial_line]).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            return mark.encode() in file.read()
