"""QMP with a real QEMU that has no machine to run."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import DeadlineExceeded
from harness.machine import toolchain
from harness.machine.bell import Bell
from harness.machine.qemu import QemuProcess
from harness.machine.qmp import Qmp, QmpLost, QmpRefused
from tests.guests import deadline

pytestmark = pytest.mark.network


@dataclass
class Connected:
    process: QemuProcess
    qmp: Qmp
    log: Path


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Connected]:
    bell, log = Bell(), tmp_path / "qmp.jsonl"
    host, other = socket.socketpair()
    argv = [*toolchain.find(deadline(600)).argv_prefix, "-nodefaults", "-display", "none", "-machine", "none", "-S"]
    argv += ["-chardev", f"socket,fd={other.fileno()},id=c", "-object", "monitor-qmp,id=q,chardev=c"]
    with contextlib.ExitStack() as cleanup:
        with other:
            process = QemuProcess(argv, tmp_path / "qemu.log", (other.fileno(),), bell)
        cleanup.callback(process.kill)
        qmp = Qmp(log, bell)
        cleanup.callback(qmp.close)
        qmp.connect(host, deadline())
        yield Connected(process, qmp, log)


def test_a_command_and_its_answer(qemu: Connected) -> None:
    assert qemu.qmp.execute("query-status", deadline())["status"] == "prelaunch"
    assert qemu.qmp.human("info name", deadline()) == ""


def test_an_event_that_came_before_the_wait_is_not_missed(qemu: Connected) -> None:
    qemu.qmp.execute("cont", deadline())
    position = qemu.qmp.position
    qemu.qmp.execute("stop", deadline())
    assert qemu.qmp.wait_event(("STOP",), deadline(), since=position).name == "STOP"
    assert [event.name for event in qemu.qmp.events()] == ["RESUME", "STOP"]


def test_an_event_that_came_before_the_position_does_not_count(qemu: Connected) -> None:
    qemu.qmp.execute("cont", deadline())
    with pytest.raises(DeadlineExceeded):
        qemu.qmp.wait_event(("RESUME",), deadline(0.1), since=qemu.qmp.position)


def test_a_refused_command_has_qemu_s_words(qemu: Connected) -> None:
    with pytest.raises(QmpRefused, match="has not been found") as caught:
        qemu.qmp.execute("no-such-command", deadline())
    assert caught.value.error_class == "CommandNotFound"


def test_the_log_has_commands_replies_and_events_in_order(qemu: Connected) -> None:
    qemu.qmp.execute("cont", deadline())
    lines = [json.loads(line) for line in qemu.log.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["command", "event", "reply"]
    assert sorted(line["at"] for line in lines) == [line["at"] for line in lines]


def test_a_qemu_that_is_gone(qemu: Connected) -> None:
    qemu.process.kill()
    with pytest.raises(QmpLost):
        qemu.qmp.execute("query-status", deadline())


def test_a_qemu_that_does_not_answer(qemu: Connected) -> None:
    """Stopped as a whole, as one with a stuck main loop would look."""
    os.kill(qemu.process.pid, signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="does not answer"):
        qemu.qmp.execute("query-status", deadline(0.3))
    assert time.monotonic() - begin < 5
    qemu.process.kill()


def test_closing_twice(qemu: Connected) -> None:
    qemu.qmp.close()
    qemu.qmp.close()
