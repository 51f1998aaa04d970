"""What becomes of an actor is told on the console too."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.deadline import Deadline
from harness.guest.actions import Result
from harness.guest.actor import Actor, actor_script
from harness.guest.session import Session
from harness.guest.ssh import Background, ConnectionLost
from harness.machine.console import Line
from harness.machine.ending import Ending, EndingKind
from harness.machine.state import State
from harness.scenario.steps import GuestStep, Load, Reboot, Run

REPLY = '{"op": "load", "target": "kvm_intel", "failed": "kvm_intel", "errno": 16, "errno_name": "EBUSY"}'


class FakeConsole:
    def __init__(self, *lines: str) -> None:
        self.texts = lines

    def find(self, pattern: Any, since: int = 0) -> Line | None:
        found = (text for text in self.texts[since:] if re.search(pattern, text))
        return next((Line(0, 0.0, text) for text in found), None)


def actor(step: GuestStep, *lines: str, state: State = State.RUNNING) -> Actor:
    machine = SimpleNamespace(
        console=FakeConsole(*lines),
        state=state,
        boot=SimpleNamespace(number=1),
        expect=lambda *states: None,
        watch=lambda look, deadline: look(),
    )
    session = SimpleNamespace(machine=machine, note_online=lambda done: done, module=lambda name: name)
    return Actor(step, cast("Session", session), None, 171, 1, (0, 1))


LOAD = Load(id="load", module="kvm_intel")


@pytest.mark.parametrize(
    ("step", "lines", "result"),
    [
        (LOAD, [f"[ 20.4] harness: done load 1 0-3 {REPLY}"], Result("EBUSY", "kvm_intel, failed kvm_intel")),
        (LOAD, [f"[ 20.4] harness: done load-2 1 0-3 {REPLY}"], None),  # another one's
        (LOAD, [], None),
        (Run(id="r", command="false"), ["[ 1.1] harness: done r 1 0-3 why"], Result("FAILED", "exit status 1: why")),
        (Run(id="r", command="true"), ["[ 1.1] harness: done r 0 0-3 "], Result()),
    ],
)
def test_the_console_says_what_became_of_it(step: GuestStep, lines: list[str], result: Result | None) -> None:
    found = actor(step, *lines).result()
    assert found is None if result is None else found is not None and found.value == result.value
    if result is not None and found is not None:
        assert found.detail.startswith(result.detail)


def test_a_reboot_has_done_its_work_when_the_machine_is_at_its_reset() -> None:
    reboot = Reboot(id="reboot", how="force")
    assert actor(reboot).result() is None
    assert actor(reboot, state=State.RESET).result() == Result()
    assert actor(LOAD, state=State.RESET).result() is None


def test_nothing_is_done_before_the_word_and_the_last_line_is_the_reply() -> None:
    lines = actor_script(LOAD, actor(LOAD).session).splitlines()
    assert lines[0] == "echo harness-pid $$; read -r go || exit 1; echo harness-begun"
    assert "harness:begin:load" in lines[1]
    script = "\n".join(lines)
    assert "reply=$(guestctl load kvm_intel)" in script and "harness: done load $status $cpus" in script


class BrokenChannel:
    """What is left of an SSH session whose guest went down before its first word was out."""

    stdout = ""

    def poll(self, deadline: Deadline) -> None:
        raise ConnectionLost("reboot -f", Ending(EndingKind.RESET, 1, "the guest reset"))

    def wait_line(self, prefix: str, deadline: Deadline) -> str:
        self.poll(deadline)
        return ""

    def send(self, text: str, deadline: Deadline) -> None:
        pass


def test_who_takes_the_network_away_at_once_has_begun_when_the_console_says_so() -> None:
    soon = Deadline.after(5, "an actor's begin")
    reboot = Reboot(id="reboot", how="force")

    def begin(*lines: str) -> None:
        made = actor(reboot, *lines)
        made.background = cast("Background", BrokenChannel())
        made.go(soon)

    begin("[ 21.5] harness: begin reboot")
    with pytest.raises(ConnectionLost):
        begin("[ 21.5] harness: begin closer")
