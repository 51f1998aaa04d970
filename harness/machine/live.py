"""What a started machine consists of, and where its present boot begins in the records."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from harness.machine.bell import Bell
from harness.machine.console import Console, Seen, Sign
from harness.machine.qemu import QemuProcess
from harness.machine.qmp import Qmp
from harness.machine.state import ENDED, State, guest_state


@dataclass(frozen=True)
class Boot:
    """One boot of the guest, from 1, and the endings of it that are no surprise."""

    number: int
    at: float  # monotonic
    console: int = 0  # position in the console's lines
    events: int = 0  # position in QMP's events
    expected: frozenset[State] = frozenset()
    restored: bool = False  # from a snapshot of a guest that was running


@dataclass(frozen=True)
class Live:
    """A started QEMU, its connections, and its present boot."""

    process: QemuProcess
    console: Console
    qmp: Qmp
    bell: Bell  # rung by all three
    boot: Boot
    ssh_port: int = 0  # on 127.0.0.1; known once QMP has answered
    emulator: str = ""  # of the CPUs beneath KVM
    paused: bool = False  # by pause(): QMP's word for it counts only as long as no debugger stops the machine too

    @property
    def state(self) -> State:
        if self.process.returncode is not None:
            return State.GONE
        state = guest_state(self.qmp.events(since=self.boot.events), self.signs())
        return State.STOPPED if self.paused and state not in ENDED else state

    def signs(self) -> dict[Sign, Seen]:
        """Each sign of the present boot, where it was seen first."""
        return self.console.signs(self.boot.console)

    def quiet_for(self) -> float:
        """Seconds since the present boot printed its last line, or since it began."""
        return time.monotonic() - max(self.console.last_at, self.boot.at)

    def next_boot(self) -> Live:
        """The same machine at the beginning of its next boot."""
        boot = Boot(self.boot.number + 1, time.monotonic(), self.console.position, self.qmp.position)
        return replace(self, boot=boot, paused=False)

    def expecting(self, *states: State) -> Live:
        return replace(self, boot=replace(self.boot, expected=self.boot.expected.union(states)))
