"""The leash: a process that ends with whoever started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import HostFault
from harness.machine.bell import Bell
from harness.machine.qemu import QemuProcess

# Starts a long sleep on the leash, from a thread that is not the main one, and says its pid.
_DRIVER = """
import sys, threading, time
from pathlib import Path
from harness.machine.bell import Bell
from harness.machine.qemu import QemuProcess

def start():
    print(QemuProcess(["sleep", "1000"], Path(sys.argv[1]), (), Bell()).pid, flush=True)

threading.Thread(target=start).start()
time.sleep(1000)
"""


def start(tmp_path: Path, *argv: str) -> QemuProcess:
    return QemuProcess(argv, tmp_path / "log", (), Bell())


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie that its new parent has yet to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int, seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def test_its_words_and_its_end(tmp_path: Path) -> None:
    process = start(tmp_path, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert process.wait(5)
    assert process.returncode == 3
    assert process.ending() == "exit status 3"
    assert process.words() == "out\nerr"


def test_kill_reaps(tmp_path: Path) -> None:
    process = start(tmp_path, "sleep", "1000")
    process.kill()
    assert process.ending() == "killed by SIGKILL"
    assert not Path(f"/proc/{process.pid}").exists()
    process.kill()


def test_a_program_that_is_not_there_says_so(tmp_path: Path) -> None:
    process = start(tmp_path, "/nonexistent/qemu")
    assert process.wait(5)
    assert process.returncode == 127
    assert "/nonexistent/qemu" in process.words()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(HostFault, match="cannot be started"):
        QemuProcess(["true"], tmp_path / "missing" / "log", (), Bell())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_dies_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(tmp_path / "log")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    assert alive(pid)
    os.kill(driver.pid, number)
    driver.wait(10)
    assert gone(pid)
