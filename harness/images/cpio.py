"""The newc cpio archive that the kernel unpacks as its initramfs.

Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel, and cpio(5). Written here and
not by cpio(1), so that the bytes depend on nothing but the entries, and device nodes need no root.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4  # of each name and each body


@dataclass(frozen=True)
class Entry:
    """One file of the archive. `path` is relative to the guest's root: `sbin/init`."""

    path: str
    mode: int  # type and permissions, as in stat(2)
    data: bytes = b""  # a regular file's content, a symbolic link's target
    device: tuple[int, int] = (0, 0)  # major and minor of a device node


def directory(path: str, permissions: int = 0o755) -> Entry:
    return Entry(path, stat.S_IFDIR | permissions)


def file(path: str, data: bytes, permissions: int = 0o644) -> Entry:
    return Entry(path, stat.S_IFREG | permissions, data)


def symlink(path: str, target: str) -> Entry:
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    return Entry(path, stat.S_IFCHR | permissions, device=(major, minor))


def pack(entries: Iterable[Entry]) -> bytes:
    """The archive of `entries`, with the directories that they need; equal entries give equal bytes.

    Everything belongs to root and is of 1970. A path that is given twice raises ValueError.
    """
    parts: list[bytes] = []
    for inode, entry in enumerate(_with_parents(entries), start=1):
        parts += _record(entry, inode)
    parts += _record(Entry(_TRAILER, 0), 0)
    return b"".join(parts)


def _with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """`entries` sorted by path, a directory before what is in it."""
    by_path: dict[str, Entry] = {}
    for entry in entries:
        if entry.path in by_path:
            raise ValueError(f"two entries for {entry.path}")
        by_path[entry.path] = entry
    for path in list(by_path):
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                by_path.setdefault(str(parent), directory(str(parent)))
    return [by_path[path] for path in sorted(by_path, key=lambda path: path.split("/"))]


def _record(entry: Entry, inode: int) -> Iterator[bytes]:
    name = entry.path.encode() + b"\0"
    fields = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        2 if stat.S_ISDIR(entry.mode) else 1,  # nlink: above 1 the kernel looks for hard links of a file
        0,  # mtime
        len(entry.data),
        0,  # the archive's own device
        0,
        *entry.device,
        len(name),
        0,  # checksum, unused in newc
    )
    header = _MAGIC + b"".join(b"%08X" % field for field in fields)
    yield _padded(header + name)
    yield _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
