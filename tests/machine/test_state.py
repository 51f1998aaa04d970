"""States as the records have them; each row is a story."""

import pytest

from harness.machine.console import Sign
from harness.machine.qmp import QmpEvent
from harness.machine.state import State, guest_state


def events(*names: str) -> list[QmpEvent]:
    """QMP events by name; SHUTDOWN/reason gives the reason."""
    parts = [name.partition("/") for name in names]
    return [QmpEvent(seq, 0.0, name, {"reason": reason}) for seq, (name, _, reason) in enumerate(parts)]


@pytest.mark.parametrize(
    ("names", "signs", "state"),
    [
        ([], set(), State.BOOTING),
        ([], {Sign.READY}, State.RUNNING),
        ([], {Sign.FAILED}, State.BOOTING),
        (["SUSPEND"], {Sign.READY}, State.SUSPENDED),
        (["SUSPEND", "WAKEUP"], {Sign.READY}, State.RUNNING),
        (["SHUTDOWN/guest-reset", "STOP"], {Sign.READY}, State.RESET),
        (["SHUTDOWN/guest-shutdown", "STOP"], {Sign.READY}, State.OFF),
        (["SUSPEND", "WAKEUP", "SHUTDOWN/guest-reset"], {Sign.READY}, State.RESET),
        ([], {Sign.READY, Sign.PANIC}, State.PANICKED),
        (["SHUTDOWN/guest-reset"], {Sign.READY, Sign.PANIC}, State.RESET),
        ([], {Sign.PANIC, Sign.CRASH_KERNEL}, State.CRASH_KERNEL),
        (["STOP"], {Sign.READY}, State.STOPPED),
        (["STOP", "RESUME"], {Sign.READY}, State.RUNNING),
        (["SHUTDOWN/host-qmp-quit"], {Sign.READY}, State.RUNNING),
    ],
)
def test_state(names: list[str], signs: set[Sign], state: State) -> None:
    assert guest_state(events(*names), signs) is state
