"""When a lab ends that nobody asked to stay."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded
from harness.lab import users


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    path = tmp_path / "live.json"
    path.touch()
    return path


def soon() -> Deadline:
    return Deadline.after(5, "a user")


def test_a_lab_ends_with_its_last_user(sign: Path) -> None:
    with users.using(sign.parent, soon()):
        with users.using(sign.parent, soon()):
            assert not users.left(sign.parent, sign)
        assert not users.left(sign.parent, sign)
        assert sign.exists()
    assert users.left(sign.parent, sign)
    assert not sign.exists()


def test_a_lab_that_stays_needs_no_user(sign: Path) -> None:
    users.stay(sign.parent, wanted=True)
    assert not users.left(sign.parent, sign)
    users.stay(sign.parent, wanted=False)
    assert users.left(sign.parent, sign)


def test_a_user_that_is_killed_has_left(sign: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from harness.deadline import Deadline; from harness.lab import users\n"
        "with users.using(Path(sys.argv[1]), Deadline.after(5, 'x')): print('there', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(sign.parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "there\n"
        assert not users.left(sign.parent, sign)
        user.kill()
    assert users.left(sign.parent, sign)


def test_who_cannot_become_a_user_is_told(sign: Path) -> None:
    with (sign.parent / "users.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DeadlineExceeded), users.using(sign.parent, Deadline.after(0.2, "a user")):
            pass
