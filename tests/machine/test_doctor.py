"""The examination of this host, without the engines."""

from pathlib import Path

import pytest

from harness.machine import doctor, toolchain
from harness.machine.doctor import Check, Level, Report, examine
from harness.machine.proof import Proof
from tests.guests import deadline

WORKS = Proof("tcg-svm", True, "seen")
FAILS = Proof("kvm (svm)", False, "not seen")
OK = Check("gcc", Level.OK, "/usr/bin/gcc")
NOTE = Check("ccache", Level.NOTE, "absent", "get it")
NO = Check("gcc", Level.NO, "absent", "get it")


@pytest.mark.parametrize(
    ("report", "usable"),
    [
        (Report((FAILS, WORKS), (OK, NOTE)), True),
        (Report((FAILS,), (OK,)), False),
        (Report((WORKS,), (NO,)), False),
        (Report((), ()), False),
    ],
)
def test_usable_with_one_engine_and_nothing_missing(report: Report, usable: bool) -> None:
    assert report.usable is usable


@pytest.mark.network
def test_each_no_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PATH", "/nonexistent")
    report = examine((), deadline(600))
    assert all(check.advice for check in report.checks if check.level is not Level.OK)
    missing = {check.name for check in report.checks if check.found == "absent"}
    assert {tool.program for tool in doctor.TOOLS} <= missing


def test_a_qemu_that_is_none_is_a_no_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_QEMU", "/bin/true")
    report = examine((), deadline())
    found = next(check for check in report.checks if check.name == "QEMU")
    assert found.level is Level.NO
    assert toolchain.SERIES in found.advice


def test_kvm_s_device(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    assert doctor._kvm_device(device).found == "absent"
    device.touch()
    assert doctor._kvm_device(device).level is Level.OK
    assert "does not prove" in doctor._kvm_device(device).found


def test_too_little_space_is_a_note_with_a_way_out() -> None:
    check = doctor._enough("disk", 1.0, 6.0, "GiB free", "free some")
    assert check == Check("disk", Level.NOTE, "1 GiB free", "6 are advised: free some")
