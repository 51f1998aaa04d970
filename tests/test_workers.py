"""Workers: what they do, and what is left of them when they crash, are interrupted, or nobody wants them any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import progress
from harness.errors import HarnessError, HostFault, NotExercised
from harness.workers import in_parallel


def square(number: int) -> int:
    return number * number


def misbehave(how: str) -> object:
    if how == "crash":
        os._exit(7)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "refuse":
        raise NotExercised("not here", expected="x", found="y")
    if how == "break":
        raise RuntimeError("a mistake")
    if how == "unpicklable":
        return lambda: None
    if how == "note":
        progress.note("seen")
    return os.getpid()


def everything(tasks: list[str], workers: int) -> dict[int, object]:
    return dict(in_parallel(misbehave, tasks, workers, str))


def test_every_task_is_done_once_and_told_by_its_index() -> None:
    assert sorted(in_parallel(square, range(5), 2, str)) == [(n, n * n) for n in range(5)]
    assert list(in_parallel(square, [], 2, str)) == []


def test_a_task_is_told_before_it_is_done() -> None:
    said: list[int] = []
    for index, _ in in_parallel(square, range(3), 1, str, said.append):
        assert index in said
    assert said == [0, 1, 2]


def test_a_worker_does_one_task_after_the_other() -> None:
    pids = everything(["x"] * 4, 2).values()
    assert 1 <= len(set(pids)) <= 2
    assert os.getpid() not in pids


@pytest.mark.parametrize(("how", "found"), [("crash", "exit status 7"), ("die", "killed by SIGKILL")])
def test_a_crash_is_the_fault_of_its_own_task(how: str, found: str) -> None:
    outcomes = everything(["x", how, "x", "x"], 1)
    assert sorted(outcomes) == [0, 1, 2, 3]
    fault = outcomes.pop(1)
    assert isinstance(fault, HostFault)
    assert (fault.what, fault.found) == (f"the process that did {how} ended", found)
    assert all(isinstance(pid, int) for pid in outcomes.values())


def test_what_work_raises_is_its_outcome_with_type_and_evidence() -> None:
    refused, broken, lost = (everything([how], 1)[0] for how in ("refuse", "break", "unpicklable"))
    assert isinstance(refused, NotExercised)
    assert (refused.what, refused.expected, refused.found) == ("not here", "x", "y")
    assert isinstance(broken, HostFault)
    assert "a mistake" in broken.what
    assert "RuntimeError" in broken.evidence
    assert isinstance(lost, HostFault)


def test_notes_are_shown_here_with_the_tasks_name(capfd: pytest.CaptureFixture[str]) -> None:
    everything(["note"], 1)
    assert capfd.readouterr().err.strip() == "note: seen"


def test_an_iterator_that_is_closed_leaves_nobody(tmp_path: Path) -> None:
    outcomes = in_parallel(wait_for_ever, [tmp_path / "a", tmp_path / "b", tmp_path / "quick"], 3, str)
    next(outcomes)
    begun = [int((tmp_path / name).read_text()) for name in ("a", "b") if (tmp_path / name).exists()]
    outcomes.close()  # type: ignore[attr-defined]
    assert not any(alive(pid) for pid in begun)


def wait_for_ever(note: Path) -> str:
    """Says on the disk who it is, and how it ended; unless it is quick."""
    if note.name == "quick":
        while not (note.with_name("a").exists() and note.with_name("b").exists()):
            time.sleep(0.01)
        return "done"
    part = note.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(note)
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        note.with_suffix(".clean").touch()
        raise
    return ""


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


PROGRAM = """\
import sys
from pathlib import Path
from harness.workers import in_parallel
from tests.test_workers import wait_for_ever

if __name__ == "__main__":
    for _ in in_parallel(wait_for_ever, [Path(sys.argv[1]) / name for name in "ab"], 2, str):
        pass
"""


@pytest.mark.parametrize(("number", "clean"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_nobody_is_left_when_the_harness_is_interrupted_or_killed(
    number: signal.Signals, clean: bool, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    harness = subprocess.Popen([sys.executable, program, tmp_path], env=environment, stderr=subprocess.PIPE)
    notes = [tmp_path / name for name in "ab"]
    until(lambda: all(note.exists() for note in notes))
    harness.send_signal(number)
    assert harness.wait(60) != 0
    until(lambda: not any(alive(int(note.read_text())) for note in notes))
    assert [note.with_suffix(".clean").exists() for note in notes] == [clean, clean]


def until(condition: object, seconds: float = 60.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_types_of_errors_survive_the_way() -> None:
    outcome = everything(["refuse"], 1)[0]
    assert isinstance(outcome, HarnessError)
    assert outcome.exit == NotExercised.exit
