"""Who uses a lab: one that nobody asked to stay ends when its last user is gone, also one that was killed.

A user has a shared lock on a file, which the kernel takes away with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from harness.deadline import Deadline

_LOCK = "users.lock"
_STAYS = "stays"
_LOOK_S = 0.1


@contextlib.contextmanager
def using(folder: Path, deadline: Deadline) -> Iterator[None]:
    """During the block, the lab of the existing `folder` does not end for want of users.

    Raises DeadlineExceeded when its keeper does not let go of the lock, which it has for an instant.
    """
    with (folder / _LOCK).open("a") as lock:
        while not _taken(lock.fileno(), fcntl.LOCK_SH):
            deadline.check(f"{folder / _LOCK} is kept")
            deadline.pause(_LOOK_S)
        yield


def stay(folder: Path, wanted: bool) -> None:
    """Whether the lab is to outlive its users. To be called by one of them."""
    if wanted:
        (folder / _STAYS).touch()
    else:
        (folder / _STAYS).unlink(missing_ok=True)


def left(folder: Path, sign: Path) -> bool:
    """Whether the lab has no user, and is not to stay. The file `sign`, by which users find it, is gone then."""
    with (folder / _LOCK).open("a") as lock:
        if not _taken(lock.fileno(), fcntl.LOCK_EX) or (folder / _STAYS).exists():
            return False
        sign.unlink(missing_ok=True)  # with the lock: whoever comes now does not find it
        return True


def _taken(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
