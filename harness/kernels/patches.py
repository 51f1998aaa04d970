"""Patches as people have them: a file, a mailbox with several, a quilt series. Applied with patch(1)."""

from __future__ import annotations

import email
import email.policy
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from harness import process
from harness.deadline import Deadline
from harness.errors import DoesNotBuild, UsageError


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


def read_patches(origins: Iterable[Path]) -> tuple[Patch, ...]:
    """The patches in `origins`, in order: each a patch, a mailbox, a `series` file or a directory with one.

    Raises UsageError for what cannot be read or holds no diff.
    """
    return tuple(patch for origin in origins for patch in _read(origin))


def apply(patch: Patch, tree: Path, deadline: Deadline) -> None:
    """Applies `patch` to the kernel source in `tree`: at any offset, but as `git am` without fuzz.

    Raises DoesNotBuild that names the patch, the file and the hunk. The tree is then half patched: apply to a copy.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".patch", errors="surrogateescape") as file:
        file.write("".join(diff.text for diff in patch.diffs))
        file.flush()
        # A hunk whose context does not match may end up in another function, and would be judged all the same.
        strict = ["--fuzz=0", "--forward", "--batch", "--no-backup-if-mismatch", "--reject-file=-"]
        argv = ["patch", "-p1", *strict, "-i", file.name]
        try:
            process.run(argv, deadline, cwd=tree)
        except process.ProcessFailed as error:
            raise _does_not_apply(patch, error.output) from error


def _read(origin: Path) -> list[Patch]:
    if origin.is_dir() or origin.name == "series":
        return _read_series(origin)
    try:
        raw = origin.read_bytes()
    except OSError as error:
        raise UsageError(
            f"patch {origin} cannot be read: {error.strerror}", hint="give a file, an mbox or a series"
        ) from error
    patches = [patch for message in _messages(raw) if (patch := _parse(origin, *message)).diffs]
    if not patches:
        raise UsageError(
            f"{origin} is not a patch",
            expected="a unified diff (`--- a/file`, `+++ b/file`, `@@ …`), as from `git format-patch` or `diff -u`",
            found=f"{len(raw)} bytes without one",
        )
    return patches


def _read_series(origin: Path) -> list[Patch]:
    """quilt(1): one patch per line, comments after #, an optional -p1."""
    series = origin / "series" if origin.is_dir() else origin
    try:
        lines = [line.partition("#")[0].split() for line in series.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"quilt series {series} cannot be read: {error}", expected="a file with one patch per line"
        ) from error
    names = [words for words in lines if words]
    for words in names:
        if words[1:] not in ([], ["-p1"]):
            raise UsageError(f"{series}: {' '.join(words)}: only -p1 is supported")
    if not names:
        raise UsageError(f"quilt series {series} names no patch")
    return [patch for words in names for patch in _read(series.parent / words[0])]


# The separator that git format-patch and mailing list archives write before each mail.
_MBOX_FROM = re.compile(rb"^From \S+ +(?:\w{3} ){2}.*\d{4}.*\n", re.MULTILINE)


def _messages(raw: bytes) -> Iterator[tuple[str, str]]:
    """(subject, text) of each mail in a mailbox; of a plain patch, ("", text)."""
    chunks = [chunk for chunk in _MBOX_FROM.split(raw) if chunk.strip()]
    for chunk in chunks:
        if _MAIL_HEADER.match(chunk) is None:
            yield "", _decode(chunk)
        else:
            message = email.message_from_bytes(chunk, policy=email.policy.default)
            assert isinstance(message, EmailMessage)
            yield " ".join(str(message["subject"] or "").split()), _body(message)


_MAIL_HEADER = re.compile(rb"(?i)(?:from|date|subject|message-id|received|return-path):")


def _body(message: EmailMessage) -> str:
    """The text parts, undone from quoted-printable or base64 when the mailbox came from an archive."""
    parts = [part.get_payload(decode=True) for part in message.walk() if part.get_content_maintype() == "text"]
    return "".join(_decode(part) for part in parts if isinstance(part, bytes))


def _decode(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape").replace("\r\n", "\n")


# Where the diff of one file begins. A plain `diff -u` has no "diff" line.
_DIFF_START = re.compile(r"^(?=diff --git )|^(?=--- \S.*\n\+\+\+ \S.*\n@@ )", re.MULTILINE)
_OLD_NEW = re.compile(r"^--- (\S+).*\n\+\+\+ (\S+).*\n@@ ", re.MULTILINE)
_RENAME = re.compile(r"^rename (?:from|to) (\S+)$", re.MULTILINE)


def _parse(origin: Path, subject: str, text: str) -> Patch:
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


_FILE = re.compile(r"(?:checking|patching) file '?([^'\n]+?)'?(?: \(.*\))?$")
_HUNK = re.compile(r"Hunk #(\d+) (FAILED|ignored) at (\d+)")


def _does_not_apply(patch: Patch, output: str) -> DoesNotBuild:
    """The first hunk that failed, out of what patch(1) said."""
    where = "?"
    for line in output.splitlines():
        if match := _FILE.search(line):
            where = match[1]
        elif match := _HUNK.search(line):
            where += f", hunk {match[1]} (line {match[3]})"
            break
        elif "can't find file to patch" in line:
            where = f"{', '.join(patch.files)}: there is no such file"
            break
        elif line.startswith("Reversed (or previously applied) patch"):
            where += ": it is there already, or the patch is the wrong way round"
            break
    return DoesNotBuild(
        f"patch {patch} does not apply: {where}",
        expected="a patch for this version of the kernel",
        evidence=process.tail(output),
    )
