"""What of the lab can be tried without one; tests/lab/test_in_the_lab.py has the rest."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock

from harness.cli.lab import _absolute, _options
from harness.cli.lab import lab as lab_command
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HostFault, UsageError
from harness.lab import lab
from harness.lab.keeper import LOG, LiveLab, kept
from harness.paths import PROJECT
from tests.lab.test_keeper import LAB


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LiveLab:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return dataclasses.replace(LAB, runs=str(tmp_path / "runs"))


def test_files_of_the_project_are_at_their_own_place(running: LiveLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    assert _absolute("scenarios/load-unload.yaml", "", running) == f"{PROJECT}/scenarios/load-unload.yaml"
    assert _absolute("--patch=scenarios/demo.yaml", "", running) == f"--patch={PROJECT}/scenarios/demo.yaml"


def test_a_folder_needs_no_slash(running: LiveLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    assert _absolute("scenarios", "--cold", running) == f"{PROJECT}/scenarios"
    assert _absolute("scenarios", "--kernel", running) == "scenarios"


def test_a_link_leads_to_what_the_lab_sees(running: LiveLab, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(PROJECT / "scenarios")
    assert _absolute(f"{tmp_path}/link/demo.yaml", "", running) == f"{PROJECT}/scenarios/demo.yaml"
    with pytest.raises(UsageError, match="does not see"):
        _absolute(f"{PROJECT}/scenarios/../../other.yaml", "", running)


def test_what_would_be_written_where_the_lab_ends_with_it_is_refused(running: LiveLab, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not see"):
        _absolute(f"--json={tmp_path}/results.json", "", running)
    inside = f"--json={running.runs}/a=b.json"
    Path(running.runs).mkdir()
    assert _absolute(inside, "", running) == inside


@pytest.mark.parametrize(
    "word",
    [
        "debian:6.12",
        "git:~/linux@v6.12",
        "--config=harness",
        "kvm",
        "--cold",
        "debian:6.12 +check-at-entry",
        "--junit=new.xml",
    ],
)
def test_other_words_stay_as_they_are(word: str, running: LiveLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT / "scenarios")
    assert _absolute(word, "", running) == word


def test_a_file_elsewhere_is_refused_with_what_to_do(running: LiveLab, tmp_path: Path) -> None:
    mailed = tmp_path / "mailed.yaml"
    mailed.touch()
    with pytest.raises(UsageError, match="does not see") as fault:
        _absolute(str(mailed), "", running)
    assert fault.value.hint == f"cp {mailed} {running.runs}"


def test_an_engine_that_is_named_stays() -> None:
    assert "--engine" in _options(("--engine", "tcg-svm", "x.yaml"))
    assert "--engine" in _options(("--engine=auto",))
    assert "--engine" not in _options(("--engines", "engine"))


def test_what_a_run_writes_is_not_taken_for_a_file_that_is_there(
    running: LiveLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    for before, word in (("--json", "mkdocs.yml"), ("--junit", "mkdocs.yml"), ("", "--json=mkdocs.yml")):
        assert _absolute(word, before, running) == word
    assert _absolute("mkdocs.yml", "--patch", running) == f"{PROJECT}/mkdocs.yml"


@pytest.mark.parametrize("option", ["--keep", "--pause-on=violated"])
def test_a_guest_of_the_lab_cannot_be_kept(option: str) -> None:
    result = CliRunner().invoke(lab_command, ["run", "scenarios/demo.yaml", option])
    assert isinstance(result.exception, UsageError)
    assert option.partition("=")[0] in str(result.exception)


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


@pytest.fixture
def startable(running: LiveLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Labs of this test have a keeper and no machine; the function says how many seconds they take to start."""
    interpreter, shell = sys.executable, tmp_path / "python"

    def takes(seconds: float) -> None:
        shell.write_text(f'#!/bin/sh\nexec {interpreter} -m tests.lab.without_machine {seconds} "$3" "$4"\n')
        shell.chmod(0o755)

    monkeypatch.setenv("HARNESS_RUNS", running.runs)
    monkeypatch.setattr(sys, "executable", str(shell))
    monkeypatch.setattr(lab, "prepare", lambda _: None)
    takes(0)
    yield takes
    lab.down()


def ended() -> None:
    deadline = Deadline.after(20, "the end of the lab")
    while kept(lab.lab_folder()):
        deadline.check()
        deadline.pause(0.05)


def soon() -> Deadline:
    return Deadline.after(60, "the lab")


def test_a_lab_ends_with_the_last_of_two_that_use_it(startable: Callable[[float], None]) -> None:
    with lab.at_hand(soon()) as first:
        with lab.at_hand(soon()) as second:
            assert second == first
        time.sleep(1)  # two looks of its keeper
        assert LiveLab.read(lab.lab_folder()) == first
    ended()
    assert LiveLab.read(lab.lab_folder()) is None


def test_a_lab_that_is_up_stays_until_it_is_taken_down(startable: Callable[[float], None]) -> None:
    there = lab.up(soon())
    with lab.at_hand(soon()) as used:
        assert used == there
    time.sleep(1)
    assert LiveLab.read(lab.lab_folder()) == there
    assert lab.down()
    assert not kept(lab.lab_folder())
    assert "harness lab down" in (lab.lab_folder() / LOG).read_text()


def test_two_that_start_it_at_once_have_the_same(startable: Callable[[float], None]) -> None:
    startable(1)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lab.up, (soon(), soon()))
    assert first == second


def test_what_a_killed_lab_left_is_not_taken_for_the_new_one(startable: Callable[[float], None]) -> None:
    startable(1)
    folder = lab.lab_folder()
    folder.mkdir(parents=True)
    dataclasses.replace(LAB, pid=1 << 30).write(folder)  # no process's: down() must not find one
    assert lab.up(soon()).ssh == ("ssh", "1")


def test_a_start_that_is_given_up_leaves_no_keeper(startable: Callable[[float], None], tmp_path: Path) -> None:
    startable(300)
    lab.lab_folder().mkdir(parents=True)
    with pytest.raises(DeadlineExceeded):
        lab._start(lab.lab_folder(), tmp_path, Deadline.after(3, "the start of the lab"))
    assert not kept(lab.lab_folder())


def test_the_lab_is_not_to_write_to_the_cache_or_the_project(
    running: LiveLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (os.environ["HARNESS_CACHE"], str(PROJECT)):
        monkeypatch.setenv("HARNESS_RUNS", folder)
        with pytest.raises(UsageError, match="a folder of their own"), lab.at_hand(soon()):
            pass


def test_a_command_that_is_interrupted_ends_by_itself(running: LiveLab, tmp_path: Path) -> None:
    """As in the lab: the end of stdin is what it hears of."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {tmp_path}/began\ncat\nsleep 0.5\ntouch {tmp_path}/complete\n")
    ssh.chmod(0o755)
    fake = dataclasses.replace(running, ssh=(str(ssh),))

    def interrupt() -> None:
        deadline = soon()
        while not (tmp_path / "began").exists():
            deadline.check()
            deadline.pause(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            lab.harness(fake, ["run"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "complete").exists()


def test_a_folder_of_runs_that_is_gone_is_no_fault_of_the_command_line(running: LiveLab, tmp_path: Path) -> None:
    """Its shell has exit status 2 for a `cd` that fails, which here is that of a scenario that is wrong."""
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nexec sh -c "$1"\n')
    ssh.chmod(0o755)
    assert lab.harness(dataclasses.replace(running, ssh=(str(ssh),)), ["run"]) == 3


def test_a_slow_host_has_a_slower_lab(
    running: LiveLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\necho "$1"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("HARNESS_PATIENCE", "2")
    lab.harness(dataclasses.replace(running, ssh=(str(ssh),)), ["doctor"])
    assert "HARNESS_PATIENCE=8 " in capfd.readouterr().out


def test_without_ssh_it_says_what_to_install(running: LiveLab) -> None:
    with pytest.raises(HostFault, match="ssh is not installed") as fault:
        lab.command(dataclasses.replace(running, ssh=("no-such-ssh",)), "true", terminal=False)
    assert "openssh-client" in fault.value.hint


def test_the_lab_is_in_the_cache_of_the_user(running: LiveLab) -> None:
    assert str(lab.lab_folder()).startswith(os.environ["HARNESS_CACHE"])
