"""Files that a command leaves for others: proven writable before the work begins, and never half written."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from pathlib import Path

from harness.cache import disk_full_is_a_host_fault
from harness.errors import HostFault, UsageError

STDOUT = "-"


def require_writable(target: str) -> None:
    """Raises UsageError when the file `target` could not be written ("-", stdout, always can)."""
    if target == STDOUT:
        return
    path = Path(target)
    if path.is_dir():
        raise UsageError(f"cannot write {target}: it is a folder", hint="name a file in it")
    try:
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if _replaceable(path):
            with tempfile.TemporaryFile(dir=path.resolve().parent):
                pass
    except OSError as error:
        raise UsageError(
            f"cannot write {target}: {error.strerror}", expected="a file in a folder that exists and may be written"
        ) from error


def write_output(target: str, text: str) -> None:
    """Writes `text` to the file `target`, which a reader sees either as it was or whole; "-" is stdout.

    What UTF-8 cannot express (half a surrogate pair, out of a damaged log) is written as an escape. Raises HostFault.
    """
    if target == STDOUT:
        sys.stdout.write(text)
        return
    data = text.encode("utf-8", errors="backslashreplace")
    path = Path(target).resolve()  # a link goes on being one
    try:
        with disk_full_is_a_host_fault(path.parent):
            if _replaceable(path):
                _replace(path, data)
            else:
                path.write_bytes(data)
    except OSError as error:
        raise HostFault(f"cannot write {target}: {error.strerror}") from error


def _replaceable(path: Path) -> bool:
    """Whether it is or will be a plain file; a pipe or device is written to in place."""
    return path.is_file() or not path.exists()


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
