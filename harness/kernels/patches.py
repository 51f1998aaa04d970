"""Patches as people have them: a file, a mailbox with several, a quilt series. Applied with patch(1)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from harness import process, progress
from harness.deadline import Deadline
from harness.errors import DoesNotBuild, UsageError
from harness.kernels.diff import Patch
from harness.kernels.mailbox import read_series


def read_patches(origins: Iterable[Path]) -> tuple[Patch, ...]:
    """The patches in `origins`, in order: each a patch, a mailbox, a `series` file or a directory with one.

    Of a mailbox, its series (mailbox.py), with a note of what is left out. Raises UsageError for what cannot be read
    or holds no diff.
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
        return _read_quilt(origin)
    series = read_series(origin)
    for note in series.notes:
        progress.note(f"{origin}: {note}")
    return [mail.patch for mail in series.mails]


def _read_quilt(origin: Path) -> list[Patch]:
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
