"""Who hangs, and whose task it is."""

from __future__ import annotations

from typing import cast

import pytest

from harness.errors import DeadlineExceeded
from harness.guest.hang import hung_below, hung_tasks, why_hung
from harness.guest.session import Session
from harness.guest.ssh import CommandResult
from harness.machine.ending import Ending, EndingKind, GuestEnded, GuestInDoubt

# Two actors: one whose command has a shell of its own and hangs, one that is on its way.
TASKS = """\
task 171 160 S .4.1 sh
[<0>] do_wait+0xa5/0x110
task 172 171 S .2.0 sh
[<0>] do_wait+0xa5/0x110
task 173 172 D .8.2 guestctl
[<0>] percpu_rwsem_wait+0x11a/0x140
task 181 160 S .4.1 sh
[<0>] do_wait+0xa5/0x110
task 182 181 D .7.7 guestctl
[<0>] wait_for_completion+0x2a/0x40
"""
LATER = TASKS.replace(".7.7", ".9.7")


class FakeSession:
    """A guest that looks the same at the first two looks, and like `LATER` at the third."""

    def __init__(self, first: str = TASKS, later: str = LATER) -> None:
        self._first, self._later = first, later

    def run(self, script: str, deadline: object) -> CommandResult:
        once = script.startswith("set -- 0")
        return CommandResult("", 0, self._first if once else f"{self._first}again\n{self._later}", "", 0.1)


def session(first: str = TASKS, later: str = LATER) -> Session:
    return cast("Session", FakeSession(first, later))


def test_a_task_that_was_woken_does_not_hang() -> None:
    assert [task.pid for task in hung_tasks(session())] == [173]
    assert [task.pid for task in hung_tasks(session(later=TASKS))] == [173, 182]
    assert hung_tasks(session(TASKS.replace(" D ", " R "))) == []


def test_a_hung_task_is_that_of_the_process_it_descends_from() -> None:
    found = hung_below(session(), [171, 181])
    assert {root: [task.pid for task in tasks] for root, tasks in found.items()} == {171: [173], 181: []}


class Lost(FakeSession):
    """A guest that ends when it is looked at."""

    def __init__(self, emulator: str) -> None:
        super().__init__()
        self._emulator = emulator

    def run(self, script: str, deadline: object) -> CommandResult:
        raise Ending(EndingKind.SILENT, 1, "the guest is silent", emulator=self._emulator).fault()


@pytest.mark.parametrize(("emulator", "fault"), [("", GuestEnded), ("QEMU TCG", GuestInDoubt)])
def test_how_a_guest_ended_says_more_than_a_step_that_took_too_long(emulator: str, fault: type[Exception]) -> None:
    timeout = DeadlineExceeded("timed out: step 'load'")
    assert isinstance(why_hung("load", cast("Session", Lost(emulator)), timeout), fault)
