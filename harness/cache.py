"""Entries of the cache: made by one process at a time, complete or absent."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from harness import progress
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HarnessError, HostFault

# What a full disk looks like: no blocks left, or no quota left.
_FULL = (errno.ENOSPC, errno.EDQUOT)

_NEXT_TO_NOTHING = 4 << 20  # bytes; no kernel, header package or object directory is smaller

_PATIENCE_S = 2.0  # a wait longer than this is worth a line on the display


class DiskFull(HostFault):
    """No space is left where something has to be written."""


class NotInCache(HostFault):
    """Something would have to be fetched, built or tried, and `reading_only` says that it is not."""


_reading_only = contextvars.ContextVar("reading_only", default=False)


@contextlib.contextmanager
def reading_only() -> Iterator[None]:
    """During the block, what is not in the cache raises NotInCache."""
    token = _reading_only.set(True)
    try:
        yield
    finally:
        _reading_only.reset(token)


def require_making(what: str) -> None:
    """To be called before anything is made that takes long. Raises NotInCache inside `reading_only`."""
    if _reading_only.get():
        raise NotInCache(f"{what} is not in the cache")


@contextlib.contextmanager
def locked(path: Path, deadline: Deadline) -> Iterator[None]:
    """Holds the lock file `path` (made when missing) against other processes and threads.

    Raises DeadlineExceeded when another run keeps it for too long, HostFault where nothing can be written.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path, deadline)
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise HostFault(
            f"{path.parent} cannot be written to", found=str(error), hint="set $HARNESS_CACHE to a folder of yours"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, path: Path, deadline: Deadline) -> None:
    try:
        lock.acquire(timeout=min(_PATIENCE_S, deadline.remaining()))
    except Timeout:
        progress.note(f"another run holds {path.name}; waiting for it")
        try:
            lock.acquire(timeout=deadline.remaining())
        except Timeout as error:
            raise deadline.exceeded(f"another run holds {path}") from error


@contextlib.contextmanager
def staged_dir(dest: Path) -> Iterator[Path]:
    """An empty directory beside `dest` that becomes `dest` when the block succeeds and vanishes when it fails.

    What stood at `dest` before is replaced, and stays as it was on a failure. Raises DiskFull, NotInCache.
    """
    require_making(str(dest))
    with disk_full_is_a_host_fault(dest.parent):
        dest.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", dir=dest.parent))
        try:
            stage.chmod(0o755)  # mkdtemp's 0700 would end up in the root of an unpacked tree
            yield stage
            if dest.exists():
                shutil.rmtree(dest)
            stage.replace(dest)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def disk_full_is_a_host_fault(where: Path) -> Iterator[None]:
    """Turns what goes wrong on a full disk into DiskFull, which names the file system of `where`.

    Programs report it in words of their own ("unable to write file", "does not compile"), so their failures count
    as it when next to nothing is free.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise disk_full(str(error), where) from error
    except HarnessError as error:
        if isinstance(error, DeadlineExceeded) or shutil.disk_usage(_existing(where)).free > _NEXT_TO_NOTHING:
            raise
        raise disk_full(str(error), where) from error


def disk_full(evidence: str, where: Path) -> DiskFull:
    """The fault to raise for the file system of `where`."""
    return DiskFull(
        f"the disk is full: {where}",
        hint="free some space, remove kernels with `harness kernels rm`, or set $HARNESS_CACHE to a larger disk",
        evidence=evidence,
    )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
