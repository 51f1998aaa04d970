"""What of the lab can be tried without one; tests/lab/test_in_the_lab.py has the rest."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from harness.cli.lab import _absolute, _names_engine
from harness.deadline import Deadline
from harness.errors import HostFault, UsageError
from harness.lab import lab
from harness.lab.keeper import LOG, LiveLab
from harness.paths import PROJECT
from tests.lab.test_keeper import LAB


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LiveLab:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return dataclasses.replace(LAB, runs=str(tmp_path / "runs"))


def test_files_of_the_project_are_at_their_own_place(running: LiveLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    assert _absolute("scenarios/load-unload.yaml", running) == f"{PROJECT}/scenarios/load-unload.yaml"
    assert _absolute("--patch=scenarios/demo.yaml", running) == f"--patch={PROJECT}/scenarios/demo.yaml"


@pytest.mark.parametrize("word", ["debian:6.12", "kvm", "--cold", "debian:6.12 +check-at-entry", "--junit=new.xml"])
def test_other_words_stay_as_they_are(word: str, running: LiveLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT / "scenarios")
    assert _absolute(word, running) == word


def test_a_file_elsewhere_is_refused_with_what_to_do(running: LiveLab, tmp_path: Path) -> None:
    mailed = tmp_path / "mailed.yaml"
    mailed.touch()
    with pytest.raises(UsageError, match="does not see") as fault:
        _absolute(str(mailed), running)
    assert fault.value.hint == f"cp {mailed} {running.runs}"


def test_an_engine_that_is_named_stays() -> None:
    assert _names_engine(("--engine", "tcg-svm", "x.yaml"))
    assert _names_engine(("--engine=auto",))
    assert not _names_engine(("--engines",))


def test_a_lab_with_another_folder_of_runs_is_not_taken(
    running: LiveLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "others"))
    folder = lab.lab_folder()
    folder.mkdir(parents=True)
    with FileLock(folder / "keeper.lock"):
        running.write(folder)
        with pytest.raises(UsageError, match="another folder") as fault:
            lab.up(Deadline.after(1, "x"))
    assert fault.value.found == running.runs


def test_no_lab_is_no_fault_of_down(running: LiveLab) -> None:
    assert lab.down() is False


def test_a_lab_that_does_not_start_is_told_with_its_last_words(
    running: LiveLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper's interpreter is one that only prints."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho QEMU cannot be started >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    folder = lab.lab_folder()
    folder.mkdir(parents=True)
    with pytest.raises(HostFault, match="does not start") as fault:
        lab._start(folder, tmp_path, Deadline.after(20, "the start of the lab"))
    assert "QEMU cannot be started" in fault.value.evidence


def test_a_lost_connection_is_not_the_status_of_the_command(
    running: LiveLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexit $1\n")
    ssh.chmod(0o755)
    fake = dataclasses.replace(running, ssh=(str(ssh),))
    assert lab.command(fake, "4", terminal=False) == 4
    lab.lab_folder().mkdir(parents=True)
    (lab.lab_folder() / LOG).write_text("CPU 0 of the lab stands still\n")
    monkeypatch.setattr(lab, "_LAST_WORDS_S", 0.2)
    with pytest.raises(HostFault, match="lost") as fault:
        lab.command(fake, "255", terminal=False)
    assert "CPU 0 of the lab stands still" in fault.value.evidence


def test_without_ssh_it_says_what_to_install(running: LiveLab) -> None:
    with pytest.raises(HostFault, match="ssh is not installed") as fault:
        lab.command(dataclasses.replace(running, ssh=("no-such-ssh",)), "true", terminal=False)
    assert "openssh-client" in fault.value.hint


def test_the_lab_is_in_the_cache_of_the_user(running: LiveLab) -> None:
    assert str(lab.lab_folder()).startswith(os.environ["HARNESS_CACHE"])
