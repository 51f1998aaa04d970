from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from harness.images import cpio

ENTRIES = (
    cpio.file("init", b"#!/bin/sh\n", 0o755),
    cpio.file("etc/odd", b"12345"),
    cpio.symlink("bin/sh", "busybox"),
    cpio.directory("root", 0o700),
)


def unpacked(archive: bytes, folder: Path) -> Path:
    subprocess.run(["cpio", "-idm", "--quiet"], input=archive, cwd=folder, check=True)
    return folder


def test_another_implementation_reads_it(tmp_path: Path) -> None:
    root = unpacked(cpio.pack(ENTRIES), tmp_path)
    assert (root / "etc/odd").read_bytes() == b"12345"
    assert (root / "bin/sh").readlink() == Path("busybox")
    assert stat.S_IMODE((root / "init").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "root").stat().st_mode) == 0o700
    assert (root / "init").stat().st_mtime == 0


def test_order_of_entries_does_not_show() -> None:
    assert cpio.pack(ENTRIES) == cpio.pack(reversed(ENTRIES))


def test_content_shows() -> None:
    assert cpio.pack([cpio.file("a", b"1")]) != cpio.pack([cpio.file("a", b"2")])


def test_directory_precedes_its_content() -> None:
    archive = cpio.pack([cpio.file("a-b", b""), cpio.file("a/b", b"")])
    assert archive.index(b"a\0") < archive.index(b"a/b\0")


def test_device_nodes_need_no_root() -> None:
    listing = subprocess.run(
        ["cpio", "-tv", "--quiet"],
        input=cpio.pack([cpio.character_device("dev/console", 5, 1)]),
        capture_output=True,
        check=True,
    )
    assert b"crw-------" in listing.stdout and b"5,   1" in listing.stdout


def test_same_path_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="two entries for etc/passwd"):
        cpio.pack([cpio.file("etc/passwd", b"1"), cpio.file("etc/passwd", b"2")])
