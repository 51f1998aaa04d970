"""`pytest scenarios/`: what is collected, and how verdicts become test results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BODY = """\
title: own
claims: [{id: own-claim, text: it holds, source: here}]
kernels: [debian:6.12, debian:7.3]
machine: {cpus: 2VIRT}
steps:
  - load: kvm_vendor
  - sample: loaded
expect:
  - virt: {at: loaded, on: WANTED}
"""


def run_pytest(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HARNESS_RUNS": str(folder / "runs")}
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--harness-engine",
        "tcg-svm",
        *words,
        str(folder),
    ]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, cwd=folder)


def write(folder: Path, wanted: str = "all", virt: str = "") -> None:
    (folder / "own.yaml").write_text(BODY.replace("WANTED", wanted).replace("VIRT", virt))


def test_a_scenario_is_one_test_per_kernel_and_other_yaml_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "claims.yaml").write_text("- {id: x}\n")
    (tmp_path / "other.yaml").write_text("a: 1\n")
    done = run_pytest(tmp_path, "--collect-only", "-q")
    assert "own[debian:6.12]" in done.stdout
    assert "own[debian:7.3]" in done.stdout
    assert "2 tests collected" in done.stdout
    assert "own[debian:7.3]" not in run_pytest(tmp_path, "--collect-only", "-q", "-k", "6.12").stdout
    assert "2 tests collected" in run_pytest(tmp_path, "--collect-only", "-q", "-m", "own_claim").stdout


def test_a_faulty_scenario_is_a_collection_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(BODY.replace("load:", "laod:"))
    done = run_pytest(tmp_path)
    assert done.returncode == 2
    assert "own.yaml:6: unknown step laod" in done.stdout


@pytest.mark.boot
@pytest.mark.parametrize(
    ("wanted", "virt", "words", "status", "says"),
    [
        ("all", "", (), 0, "1 passed"),
        ("none", "", (), 1, "virtualization on at loaded: CPU 0, 1; expected: none"),
        ("all", ", virt: vmx", (), 1, "the scenario needs VMX"),
        ("all", ", virt: vmx", ("--allow-not-exercised",), 0, "1 skipped"),
    ],
)
def test_verdicts(tmp_path: Path, wanted: str, virt: str, words: tuple[str, ...], status: int, says: str) -> None:
    write(tmp_path, wanted, virt)
    done = run_pytest(tmp_path, "--harness-kernel", "debian:6.12", "-rs", *words)
    assert done.returncode == status, done.stdout
    assert says in done.stdout


@pytest.mark.boot
def test_fixtures_give_a_guest_and_its_machine(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(
        "from harness.deadline import Deadline\n"
        "def test_release(guest, machine, kernel):\n"
        "    deadline = Deadline.after(30, 'the guest')\n"
        "    assert guest.run('uname -r', deadline).stdout.strip() == kernel.release\n"
        "    assert len(machine.registers(deadline)) == 4\n"
    )
    done = run_pytest(tmp_path)
    assert "1 passed" in done.stdout, done.stdout
