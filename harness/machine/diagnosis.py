"""What became of a guest that ended, or that nobody hears from any more."""

from __future__ import annotations

import contextlib
import enum
import socket
import time

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HarnessError
from harness.machine import registers
from harness.machine.console import Sign
from harness.machine.ending import Ending, EndingKind
from harness.machine.live import Live
from harness.machine.state import ENDED, State

# For an answer on the SSH port, as long as there is time, and at the least. A guest under TCG takes 50 ms; at a load
# of 23 on two cores it took seconds, and passed for a silent kernel.
_PROBE_S, _LEAST_S = 20.0, 10.0
_LATE_S = 0.5  # for an event that broke a connection to be reported after the connection broke
_EXCERPT_LINES = 25


class Answer(enum.Enum):
    """What comes back from the guest's SSH port. The value completes `the guest …`."""

    SSH = "answers on SSH"
    TCP = "closes connections to its SSH port"
    NOTHING = "does not answer on its SSH port"


def diagnose(live: Live, deadline: Deadline) -> Ending:
    """How the guest is, from all that the host can see of it.

    A panic, a reset or QEMU's end is often reported after the connection that it broke. It gets a moment to be
    reported, and then outranks the lost connection.
    """
    with contextlib.suppress(DeadlineExceeded):
        live.bell.wait_for(lambda: live.state in ENDED or None, Deadline.after(_LATE_S, "late endings"))
    state = live.state
    if state in ENDED:
        return ending(live, state)
    if state is State.SUSPENDED:
        return _end(live, EndingKind.RUNNING, "the guest is asleep in S3")
    began = time.monotonic()
    answer = _knock(live.ssh_port, deadline)
    if answer is Answer.SSH:
        return _end(live, EndingKind.RUNNING, f"the guest {answer.value}")
    if answer is Answer.TCP:
        return _end(live, EndingKind.SSH_LOST, f"SSH is lost, but the kernel lives: the guest {answer.value}")
    if live.console.last_at > began:
        return _end(live, EndingKind.SSH_LOST, "SSH is lost, but the kernel lives: it prints on the console")
    return silent(live, f"it {answer.value} and prints nothing")


def ending(live: Live, state: State) -> Ending:
    """The ending that put the machine into `state`, one of ENDED."""
    if state is State.GONE:
        live.console.wait_end(_LATE_S)
    else:
        live.console.settle(Deadline.after(_LATE_S, "the console's last lines"))
    panic = live.signs().get(Sign.PANIC)
    if panic is not None and State.PANICKED not in live.boot.expected:
        return _end(live, EndingKind.PANIC, f"the kernel panicked: {panic.detail}")
    if state in (State.GONE, State.STOPPED):  # the evidence is QEMU's own words, not the guest's
        text = f"QEMU died: {live.process.ending()}" if state is State.GONE else "QEMU stopped at an error of its own"
        return Ending(EndingKind.QEMU_DIED, live.boot.number, text, live.process.words())
    kind, text = _TEXT[state]
    return _end(live, kind, text)


_TEXT = {
    State.RESET: (EndingKind.RESET, "the guest reset, or triple-faulted"),
    State.OFF: (EndingKind.POWER_OFF, "the guest switched itself off"),
    State.PANICKED: (EndingKind.PANIC, "the kernel stands still after its panic"),
    State.CRASH_KERNEL: (EndingKind.PANIC, "the crash kernel has taken over"),
}


def silent(live: Live, text: str) -> Ending:
    """The ending of a guest that says nothing, with where its CPUs are."""
    places = "QEMU does not answer either"
    with contextlib.suppress(HarnessError):
        answer = live.qmp.human("info registers -a", Deadline.after(_PROBE_S, "the registers of a silent guest"))
        places = ", ".join(
            f"CPU{cpu.cpu} at {cpu.rip:#x}{' (halted)' if cpu.halted else ''}" for cpu in registers.parse(answer)
        )
    return _end(live, EndingKind.SILENT, f"the guest is silent: {text}; {places}")


def excerpt(live: Live) -> str:
    """The end of the present boot's console, as evidence; from a little before the panic where there is one."""
    panic = live.signs().get(Sign.PANIC)
    if panic is None:
        return live.console.excerpt(live.boot.console, _EXCERPT_LINES)
    begin = max(live.boot.console, panic.line.number - _EXCERPT_LINES // 3)
    return "\n".join(line.text for line in live.console.lines(begin)[:_EXCERPT_LINES])


def _knock(port: int, deadline: Deadline) -> Answer:
    """Connects to the SSH port. QEMU's user network accepts at once, and closes when the guest refuses."""
    # The deadline may be what ran out before somebody asked.
    patience = max(_LEAST_S, min(_PROBE_S, deadline.remaining()))
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=patience) as sock:
            return Answer.SSH if sock.recv(4).startswith(b"SSH-") else Answer.TCP
    except TimeoutError:
        return Answer.NOTHING
    except ConnectionError:
        return Answer.TCP


def _end(live: Live, kind: EndingKind, text: str) -> Ending:
    return Ending(kind, live.boot.number, text, excerpt(live), live.emulator)
