from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from harness.errors import HostFault
from harness.lab import keeper
from harness.lab.keeper import LIVE, LiveLab, keep, kept

LAB = LiveLab(pid=1, ssh=("ssh", "-p", "2222", "root@127.0.0.1"), runs="/runs", since=1.0, boot_s=17.3)


def test_a_lab_is_where_its_keeper_says(tmp_path: Path) -> None:
    with FileLock(tmp_path / "keeper.lock"):
        LAB.write(tmp_path)
        assert LiveLab.read(tmp_path) == LAB


def test_what_a_killed_keeper_left_is_no_lab(tmp_path: Path) -> None:
    """The lock is its process's, and ends with it however it ends."""
    program = (
        "import sys; from pathlib import Path; from filelock import FileLock; from tests.lab.test_keeper import LAB;"
        "folder = Path(sys.argv[1]); lock = FileLock(folder / 'keeper.lock'); lock.acquire(); LAB.write(folder);"
        "print('kept', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "kept\n"
        assert kept(tmp_path)
        assert LiveLab.read(tmp_path) == LAB
        keeper.kill()
    assert (tmp_path / LIVE).exists()
    assert not kept(tmp_path)
    assert LiveLab.read(tmp_path) is None


def test_there_is_one_keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_TAKE_S", 0.1)
    with FileLock(tmp_path / "keeper.lock"), pytest.raises(HostFault, match="the end of another lab"):
        keep(tmp_path, tmp_path)
