"""Files for others: refused before the work, and whole or not there."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from harness.cache import DiskFull
from harness.errors import HostFault, UsageError
from harness.output import require_writable, write_output


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "result.xml"
    target.write_text("old")
    require_writable(str(target))
    assert target.read_text() == "old"
    held_open = target.open()
    write_output(str(target), "new\n")
    assert target.read_text() == "new\n"
    assert held_open.read() == "old"  # who reads meanwhile sees one or the other
    held_open.close()
    assert [path.name for path in tmp_path.iterdir()] == ["result.xml"]


def test_an_ordinary_file_is_made(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_output(str(tmp_path / "new"), "x")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o644


def test_a_link_goes_on_being_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_output(str(tmp_path / "link"), "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    require_writable(str(pipe))
    write_output(str(pipe), "through")
    reader.join(10)
    assert got == ["through"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_half_a_surrogate_pair_is_an_escape(tmp_path: Path) -> None:
    write_output(str(tmp_path / "x"), "a\udce9é")
    assert (tmp_path / "x").read_bytes() == b"a\\udce9\xc3\xa9"


@pytest.mark.parametrize("target", ["no/such/folder/x", ".", "/proc/x", "file/x"])
def test_what_cannot_be_written_is_refused_beforehand(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        require_writable(target)


def test_what_cannot_be_written_in_the_end_is_the_hosts_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostFault, match="cannot write"):
        write_output(str(tmp_path / "file" / "x"), "text")


def test_a_full_device() -> None:
    with pytest.raises(DiskFull):
        write_output("/dev/full", "text")
