"""A patch as text: the diffs in it, and the files that they touch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileDiff:
    """What a patch does to one file."""

    paths: tuple[str, ...]  # relative to the kernel's root; two of them for a rename
    text: str


@dataclass(frozen=True)
class Patch:
    """One patch: a change set that applies as a whole."""

    origin: Path  # the file that it was read from
    subject: str  # of its mail, else the file's name
    diffs: tuple[FileDiff, ...]

    @property
    def sha256(self) -> str:
        """Of the diffs alone, so that a resent mail with the same change is the same patch."""
        return hashlib.sha256("".join(diff.text for diff in self.diffs).encode(errors="surrogateescape")).hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """Every path that it touches."""
        return tuple(dict.fromkeys(path for diff in self.diffs for path in diff.paths))

    def only(self, relevant: Callable[[str], bool]) -> Patch:
        """The part that touches a file of which `relevant` is true."""
        return Patch(self.origin, self.subject, tuple(d for d in self.diffs if any(map(relevant, d.paths))))

    def __str__(self) -> str:
        return f"{self.origin} ({self.subject})" if self.subject != self.origin.name else str(self.origin)


# Where the diff of one file begins. A plain `diff -u` has no "diff" line.
_DIFF_START = re.compile(r"^(?=diff --git )|^(?=--- \S.*\n\+\+\+ \S.*\n@@ )", re.MULTILINE)
_OLD_NEW = re.compile(r"^--- (\S+).*\n\+\+\+ (\S+).*\n@@ ", re.MULTILINE)
_RENAME = re.compile(r"^rename (?:from|to) (\S+)$", re.MULTILINE)


def parse(origin: Path, subject: str, text: str) -> Patch:
    """The patch in `text`, whatever stands around it; without a diff in it, one of no diffs."""
    diffs: list[FileDiff] = []
    pending = ""  # a "diff --git" block up to its "---" line
    for chunk in _DIFF_START.split(text)[1:]:
        pending += chunk
        if chunk.startswith("diff --git ") and "\n--- " not in chunk and not _RENAME.search(chunk):
            continue
        if touched := _paths(pending):
            diffs.append(FileDiff(touched, _without_signature(pending)))
        pending = ""
    return Patch(origin, subject or origin.name, tuple(diffs))


def _paths(text: str) -> tuple[str, ...]:
    names = [name.partition("/")[2] for pair in _OLD_NEW.findall(text) for name in pair if name != "/dev/null"]
    return tuple(dict.fromkeys([*names, *_RENAME.findall(text)]))


def _without_signature(text: str) -> str:
    """Drops git format-patch's "-- \\n2.39.5" and the next quilt header, which patch(1) would call garbage."""
    return re.split(r"^-- $", text, maxsplit=1, flags=re.MULTILINE)[0]
