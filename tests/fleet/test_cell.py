"""What bounds a run: its time, and the room on the disk."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from harness.cache import DiskFull
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HostFault, NotExercised
from harness.fleet.cell import OutOfTime, require_space, time_limit
from harness.machine.host import free_gib
from harness.workers import in_parallel


def test_what_takes_too_long_is_ended_wherever_it_is() -> None:
    cleaned: list[str] = []
    told = pytest.raises(OutOfTime, match=r"timed out: a run took longer than 0 s \(`deadline`\)")
    with told, time_limit(0.1, "a run"):
        try:
            time.sleep(30)
        finally:
            cleaned.append("up")
    assert cleaned == ["up"]


def test_a_wait_that_is_cut_short_has_not_run_out() -> None:
    """A hold or an `until` that runs out is not exercised, and a boot that does accuses the kernel."""
    with pytest.raises(OutOfTime), time_limit(0.1, "a run"):
        try:
            Deadline.after(30, "a step").pause(20)
        except DeadlineExceeded as error:
            raise NotExercised("not within 30 s") from error


def test_what_ends_in_time_is_left_alone() -> None:
    with time_limit(0.05, "a run"):
        pass
    time.sleep(0.1)


def stubborn(seconds: float) -> None:
    """Neither an exception nor the harness's own errors end this."""
    with time_limit(0.1, "a run", clean_up_s=0.1):
        while True:
            with contextlib.suppress(Exception):
                time.sleep(seconds)


def test_what_does_not_let_itself_be_ended_is_killed() -> None:
    [(_, outcome)] = in_parallel(stubborn, [30.0], 1, str)
    assert isinstance(outcome, HostFault)
    assert outcome.found == "exit status 3"


def test_room_is_asked_for_where_it_is_needed(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "made" / "yet", 1)
    with pytest.raises(DiskFull, match="the disk is full"):
        require_space(tmp_path, int(free_gib(tmp_path) * 1024) + 10_000)
