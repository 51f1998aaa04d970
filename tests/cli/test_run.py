"""Bad input to `harness run`: exit 2, one message with file and line, and nothing was booted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(sys.executable).with_name("harness")

GOOD = """\
title: t
claims: [{id: own, text: it holds, source: here}]
kernels: [debian:6.12]
steps:
  - load: kvm_vendor
expect:
  - exit: {load: OK}
"""


def harness(tmp_path: Path, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HARNESS_RUNS": str(tmp_path / "runs")}
    return subprocess.run([HARNESS, *words], env=env, capture_output=True, text=True, timeout=timeout, cwd=tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: t", "titel: t", "bad.yaml:1: unknown key 'titel'"),
        ("- load: kvm_vendor", "- laod: kvm_vendor", "bad.yaml:5: unknown step laod"),
        ("load: OK", "laod: OK", "bad.yaml:7: there is no step 'laod'"),
        ("steps:", "steps: &a", "bad.yaml:7: YAML alias"),
        ("debian:6.12", "debian:nosuch", "nosuch"),
        ("debian:6.12", "floppy:6.12", "unknown kernel source 'floppy:6.12'"),
        ("debian:6.12", "debian:6.12, floppy:6.12", "bad.yaml:3: unknown kernel source 'floppy:6.12'"),
    ],
)
def test_exit_2_and_nothing_booted(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = GOOD.replace(old, new, 1)
    (tmp_path / "bad.yaml").write_text(text.replace("{load: OK}", "*a") if "&a" in new else text)
    done = harness(tmp_path, "run", "bad.yaml", "--engine", "tcg-svm")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "missing.yaml"], "cannot read missing.yaml"),
        (["run"], "Missing argument"),
        (["run", "good.yaml", "--engine", "warp"], "unknown engine 'warp'"),
        (["run", "good.yaml", "--engine", "tcg-svm", "--patch", "no.patch"], "no.patch"),
        (["judge", "nowhere"], "nowhere is not the folder of a run"),
        (["mutants", "no.patch"], "cannot read no.patch"),
        (["frobnicate"], "No such command 'frobnicate'.\n"),
        (["mutant"], "No such command 'mutant'. Did you mean 'mutants'?"),
    ],
)
def test_wrong_command_lines(tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    done = harness(tmp_path, *words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_list_of_claims_among_the_arguments_is_no_scenario(tmp_path: Path) -> None:
    (tmp_path / "claims.yaml").write_text("- {id: a}\n")
    (tmp_path / "bad.yaml").write_text(GOOD.replace("- load:", "- laod:"))
    for words in (["claims.yaml", "bad.yaml"], ["."]):
        done = harness(tmp_path, "run", *words, "--engine", "tcg-svm")
        assert (done.returncode, "bad.yaml:5: unknown step laod" in done.stderr) == (2, True)


def test_a_run_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"format": 99}))
    done = harness(tmp_path, "judge", ".")
    assert done.returncode == 2
    assert "format 99" in done.stderr


def test_runs_folder_that_cannot_be_made_is_the_hosts_fault(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    (tmp_path / "good.yaml").write_text(GOOD)
    done = harness(tmp_path, "run", "good.yaml", "--engine", "tcg-svm")
    assert done.returncode == 3
    assert "set HARNESS_RUNS" in done.stderr
