"""Entries are complete or absent, and a full disk is the host's fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.cache import locked, staged_dir
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HostFault, UsageError


def test_staged_dir_appears_when_the_block_succeeds(tmp_path: Path) -> None:
    dest = tmp_path / "new/entry"
    with staged_dir(dest) as stage:
        (stage / "file").write_text("x")
        assert not dest.exists()
    assert (dest / "file").read_text() == "x"


def test_staged_dir_leaves_what_was_there_when_the_block_fails(tmp_path: Path) -> None:
    dest = tmp_path / "entry"
    dest.mkdir()
    (dest / "old").touch()
    with pytest.raises(RuntimeError), staged_dir(dest) as stage:
        (stage / "new").touch()
        raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["entry", "old"]


def test_full_disk_is_a_host_fault(tmp_path: Path) -> None:
    with pytest.raises(HostFault, match="the disk is full") as caught, staged_dir(tmp_path / "entry"):
        Path("/dev/full").write_text("ENOSPC, from the kernel itself")
    assert "harness kernels rm" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_failure_with_space_left_is_itself(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not compile"), staged_dir(tmp_path / "entry"):
        raise UsageError("does not compile")


def test_other_errors_are_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged_dir(tmp_path / "entry"):
        (tmp_path / "missing").read_text()


def test_lock_held_by_another_process_runs_into_the_deadline(tmp_path: Path) -> None:
    lock = tmp_path / "entry.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(lock)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DeadlineExceeded, match="a test"), locked(lock, Deadline.after(0.2, "a test")):
            pytest.fail("the lock was taken twice")
    finally:
        holder.kill()
        holder.communicate()
    with locked(lock, Deadline.after(5, "the lock of a dead process")):
        pass


_HOLD = """
import sys
from pathlib import Path
from harness.cache import locked
from harness.deadline import Deadline
with locked(Path(sys.argv[1]), Deadline.after(5, "hold")):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_cache_that_cannot_be_written_to_is_no_bug_of_the_harness(tmp_path: Path) -> None:
    """A file in the place of the folder, since root may write where the mode says no."""
    (tmp_path / "cache").touch()
    with (
        pytest.raises(HostFault, match="cannot be written to") as fault,
        locked(tmp_path / "cache" / "x.lock", soon()),
    ):
        pass
    assert "HARNESS_CACHE" in fault.value.hint


def soon() -> Deadline:
    return Deadline.after(5, "a lock")
