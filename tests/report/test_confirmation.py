"""The report to mail: what is in it, and whose names are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.machine.doctor import Check, Level, Report
from harness.machine.proof import Proof
from harness.paths import PROJECT
from harness.report.confirmation import confirmation
from harness.report.result import RunResult
from tests.report.run_folders import CONFIRMED, VIOLATED, copied, judged

FACTS = [("CPU", "GenuineIntel Intel(R) Xeon(R) Platinum 8480+"), ("flags", "vmx " * 60)]
WORKS = Proof("kvm (vmx)", True, "a guest booted", seconds=4.2)
FAILS = Proof("kvm (vmx)", False, "nesting is off", expected="nesting")


def of(*results: RunResult, proof: Proof = WORKS, checks: tuple[Check, ...] = (), fault: str = "") -> str:
    return confirmation("0.1.0", FACTS, Report((proof,), checks), results, fault)


def result(name: str, folder: Path) -> RunResult:
    record, judgement = judged(copied(name, folder))
    return RunResult.of(record, judgement, 6.0)


def test_a_good_host_has_a_line_per_claim(tmp_path: Path) -> None:
    text = of(result(CONFIRMED, tmp_path / "a"))
    assert text.startswith("virt-ordering-harness 0.1.0: harness doctor --confirm\n")
    assert "engine kvm (vmx): works: a guest booted (4.2 s)" in text
    assert "1 of 1 as declared" in text
    assert "  confirmed: unwind-reverse-order" in text
    assert "To reproduce" not in text


def test_a_run_that_is_not_as_declared_is_told_whole(tmp_path: Path) -> None:
    text = of(result(CONFIRMED, tmp_path / "a"), result(VIOLATED, tmp_path / "b"))
    assert "1 of 2 as declared" in text
    assert "  violated: reboot-in-flight-undone" in text
    assert "FAILED exit: load gave OK, not EBUSY" in text and "To reproduce" in text


def test_a_host_on_which_nothing_runs_says_why() -> None:
    text = of(proof=FAILS, fault="engine kvm (vmx) does not work\n  try: " + "turn it on " * 20)
    assert "engine kvm (vmx): no: nesting is off; expected: nesting" in text
    assert "No more runs\n------------\n\nengine kvm (vmx) does not work" in text
    assert "as declared" not in text


def test_it_fits_into_a_mail(tmp_path: Path) -> None:
    text = of(result(VIOLATED, tmp_path / "b"), fault="a b " * 100)
    assert max(map(len, text.splitlines())) <= 78


def test_nobody_is_named_by_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jane")
    monkeypatch.setenv("HARNESS_CACHE", "/home/jane/.cache/bench")
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "jane"))
    where = "20 GiB free at /home/jane/.cache/bench"
    checks = (
        Check("disk", Level.OK, where),
        Check("make", Level.NO, "absent"),
        Check("gcc", Level.OK, "/usr/bin/gcc"),
    )
    text = of(checks=checks, fault=f"{tmp_path}/jane/one is full, and /home/jane too")
    assert "jane" not in text
    assert "disk: ok: 20 GiB free at CACHE" in text and "RUNS/one is full, and ~ too" in text
    assert "make: no: absent" in text and "gcc" not in text


def test_a_cache_in_the_present_folder_takes_no_words_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "disk")
    text = of(checks=(Check("disk", Level.OK, f"20 GiB free at {Path.cwd()}/disk"),), fault=f"{PROJECT}/scenarios")
    assert "disk: ok: 20 GiB free at CACHE" in text
    assert "PROJECT/scenarios" in text
