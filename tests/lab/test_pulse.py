"""A CPU of the lab that nobody hears of any more."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.errors import HostFault
from harness.lab import pulse
from harness.lab.pulse import Pulse


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pulse, "_SILENT_S", 0.2)
    monkeypatch.delenv("HARNESS_PATIENCE", raising=False)
    path = tmp_path / "trace.txt"
    path.touch()
    return path


def add(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_all_cpus_are_heard_of(log: Path) -> None:
    lab = Pulse(log, 2)
    time.sleep(0.3)
    add(log, "0\n1\n")
    lab.check()


def test_one_is_silent_and_named(log: Path) -> None:
    lab = Pulse(log, 3)
    time.sleep(0.3)
    add(log, "0\n2\n")
    with pytest.raises(HostFault, match="CPU 1 of the lab stands still") as fault:
        lab.check()
    assert "start again" in fault.value.hint


def test_a_line_that_is_not_whole_yet_is_read_later(log: Path) -> None:
    lab = Pulse(log, 12)
    add(log, "".join(f"{cpu}\n" for cpu in range(11)) + "1")
    lab.check()
    time.sleep(0.3)
    add(log, "1\n" + "".join(f"{cpu}\n" for cpu in range(11)))
    lab.check()  # "11", not "1" and "1"


def test_other_words_are_no_signs_of_life(log: Path) -> None:
    lab = Pulse(log, 1)
    time.sleep(0.3)
    add(log, "7\nsh: cannot fork\n")
    with pytest.raises(HostFault):
        lab.check()


def test_a_slow_host_has_more_patience(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_PATIENCE", "100")
    lab = Pulse(log, 1)
    time.sleep(0.3)
    lab.check()
