"""The states of a machine, computed from what QEMU and the console reported; nobody sets them."""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence

from harness.machine.console import Sign
from harness.machine.qmp import QmpEvent


class State(enum.Enum):
    """What a machine is doing. The value completes the sentence `the machine is …`."""

    CREATED = "not started"
    BOOTING = "booting"
    RUNNING = "running"
    SUSPENDED = "asleep in S3"
    PANICKED = "standing still after a panic"
    CRASH_KERNEL = "in its crash kernel"
    RESET = "paused at its reset"
    OFF = "paused at its power-off"
    STOPPED = "stopped, by pause() or by an error inside QEMU"
    GONE = "gone: its QEMU ended"


# States out of which only continue_boot() or close() leads.
ENDED = frozenset({State.PANICKED, State.CRASH_KERNEL, State.RESET, State.OFF, State.STOPPED, State.GONE})

# Reasons of QMP's SHUTDOWN event (qapi/run-state.json, ShutdownCause) that are the guest's doing.
_SHUTDOWN = {"guest-reset": State.RESET, "guest-shutdown": State.OFF}


def guest_state(events: Sequence[QmpEvent], signs: Collection[Sign]) -> State:
    """The state of a machine whose QEMU runs, from the QMP events and console signs of the present boot."""
    stopped = [event.data["reason"] for event in events if event.name == "SHUTDOWN"]
    if stopped and stopped[-1] in _SHUTDOWN:
        return _SHUTDOWN[stopped[-1]]
    if _last(events, "STOP", "RESUME") == "STOP":
        return State.STOPPED
    if _last(events, "SUSPEND", "WAKEUP") == "SUSPEND":
        return State.SUSPENDED
    for sign, state in _BY_SIGN:
        if sign in signs:
            return state
    return State.BOOTING


def _last(events: Sequence[QmpEvent], *names: str) -> str:
    """The name of the last event that is called one of `names`; empty when there is none."""
    return next((event.name for event in reversed(events) if event.name in names), "")


_BY_SIGN = (
    (Sign.CRASH_KERNEL, State.CRASH_KERNEL),
    (Sign.PANIC, State.PANICKED),
    (Sign.READY, State.RUNNING),
)
