"""An actor: a command in the guest that runs beside the steps.

It starts in two phases, so that points can be armed for its task before it does anything: its shell says its pid and
waits for a word. What became of it comes over SSH and on the console, which outlives the guest's network: since 6.15
device_shutdown() takes that away from a reboot that is in flight.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Self

from harness import progress
from harness.deadline import Deadline
from harness.guest.actions import KEXEC_JUMPS, Result, command, result_of
from harness.guest.outcome import Outcome
from harness.guest.session import Session, mark_script, pinned
from harness.guest.ssh import Background, CommandResult, ConnectionLost
from harness.machine.state import State
from harness.observe.console_log import kmsg_mark
from harness.scenario.steps import GuestStep, Kexec, Poweroff, Reboot, Step

# What an actor of these kinds does to the machine is no surprise, and is its success.
EXPECTED_ENDS: dict[type[Step], State] = {Reboot: State.RESET, Poweroff: State.OFF}

_PID = "harness-pid "
_BEGUN = "harness-begun"
_SETTLE_S = 2.0
_LINE_MAX = 800  # of its output's last line, guestctl's reply; a message in the kernel log holds 1024 bytes


def actor_script(step: GuestStep, session: Session) -> str:
    """The shell script of an actor: who it is, then, at a word, its command between marks, and what became of it."""
    return "\n".join(
        (
            f"echo {_PID}$$; read -r go || exit 1; echo {_BEGUN}",
            mark_script("begin", step.id),
            f"reply=$({pinned(step, command(step, session))})",
            "status=$?",
            mark_script("end", step.id),
            "read -r cpus < /sys/devices/system/cpu/online",
            "line=${reply##*'\n'}",
            f'echo "harness: done {step.id} $status $cpus ${{line:0:{_LINE_MAX}}}" > /dev/kmsg',
            'echo "$reply"; echo "harness-online $cpus"',
            "exit $status",
        )
    )


@dataclass
class Actor:
    """An actor of the present boot, from its shell's first word on."""

    step: GuestStep
    session: Session
    background: Background | None  # None of one that goes on from a snapshot
    pid: int
    boot: int
    online: tuple[int, ...]
    began: float = field(default_factory=time.monotonic)
    _since: int = 0  # position on the console

    @classmethod
    def prepare(cls, step: GuestStep, session: Session, deadline: Deadline) -> Self:
        """Starts its shell. Raises like `Shell.start`."""
        machine = session.machine
        background = session.shell.start(actor_script(step, session), deadline)
        pid = int(background.wait_line(_PID, deadline))
        return cls(
            step, session, background, pid, machine.boot.number, session.online, _since=machine.console.position
        )

    def go(self, deadline: Deadline) -> None:
        """Lets the command begin."""
        assert self.background is not None
        self.began = time.monotonic()
        self.expect_end()
        progress.detail(f"guest# {command(self.step, self.session)} &")
        self.background.send("go\n", deadline)
        self._await_begin(self.background, deadline)

    def _await_begin(self, background: Background, deadline: Deadline) -> None:
        """By its word or, where it takes the network or the machine away at once, by its mark on the console."""
        mark = re.escape(kmsg_mark("begin", self.step.id))

        def look() -> bool | None:
            try:
                ended = background.poll(deadline) is not None
            except ConnectionLost:
                ended = True
            if _BEGUN in background.stdout or self.session.machine.console.find(mark, self._since):
                return True
            if ended:
                background.wait_line(_BEGUN, deadline)  # raises why it never came
            return None

        self.session.machine.watch(look, deadline)

    def expect_end(self) -> None:
        """What it will do to the machine is no fault."""
        if (end := EXPECTED_ENDS.get(type(self.step))) is not None:
            self.session.machine.expect(end)

    @property
    def since(self) -> int:
        """Where it began, as a position on the console."""
        return self._since

    def result(self) -> Result | None:
        """What became of it; None while it has not come back."""
        done = self._by_console()
        if done is None or self._settled():
            done = self._by_ssh() or done
        if done is not None:
            return result_of(self.step, self.session.note_online(done))
        return Result() if self._ended_machine() else None

    def _ended_machine(self) -> bool:
        """Whether it did to the machine what it was meant to."""
        machine = self.session.machine
        if machine.boot.number != self.boot:
            return False
        if isinstance(self.step, Kexec):
            return machine.console.find(KEXEC_JUMPS, self._since) is not None
        return machine.state is EXPECTED_ENDS.get(type(self.step))

    def outcome(self, result: Result, stacks: tuple[str, ...] = ()) -> Outcome:
        """Its line in steps.jsonl."""
        return Outcome(
            self.step.id,
            self.step.kind,
            self.boot,
            result.value,
            time.monotonic() - self.began,
            self.online,
            result.detail,
            stacks=stacks,
        )

    def _settled(self) -> bool:
        """Waits a moment for the end of its channel, which comes after the console's word where there is a network.

        Dropbear closes a channel that is opened while another one ends, as the next step's would be.
        """
        deadline = Deadline.after(_SETTLE_S, "the end of an actor's channel")
        return (
            self.background is not None
            and self.session.machine.has_network(deadline)
            and self.background.settle(deadline)
        )

    def _by_ssh(self) -> CommandResult | None:
        # A connection that is lost says nothing of the command: the console still may.
        return None if self.background is None else self.background.finished()

    def _by_console(self) -> CommandResult | None:
        pattern = rf"harness: done {re.escape(self.step.id)} (\d+) (\S+) ?(.*)"
        line = self.session.machine.console.find(pattern, self._since)
        if line is None:
            return None
        match = re.search(pattern, line.text)
        assert match is not None
        text = f"{match[3]}\nharness-online {match[2]}\n"
        return CommandResult(self.step.id, int(match[1]), text, "", time.monotonic() - self.began)
