"""Where a series comes from: files, or a thread of lore.kernel.org that b4 fetches."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness import process, progress
from harness.deadline import Deadline
from harness.errors import HostFault, UsageError
from harness.kernels.mailbox import Series, read_series

_FETCH_S = 180.0  # a thread of 130 patches in a few versions is 2 MB

_ID = re.compile(r"(?:<|https?://\S+?/|id:|mid:)?([^\s<>/]+@[^\s<>/]+?)(?:>|/\S*)?")


def series_of(sources: Sequence[str]) -> Series:
    """The one series in `sources`: a mailbox, patch files in order, or a message-id or its address on lore.

    Raises UsageError for what cannot be read or is no series; HostFault when b4 is not there, or does not get the
    thread.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = [read_series(_file(source, Path(folder))) for source in sources]
    if len(found) == 1:
        return found[0]
    mails = tuple(mail for series in found for mail in series.mails)
    return Series(found[0].title, mails, tuple(note for series in found for note in series.notes))


def _file(source: str, folder: Path) -> Path:
    path, id = Path(source), _ID.fullmatch(source)
    if path.exists() or id is None:
        return path
    return _thread(id[1], folder)


def _thread(id: str, folder: Path) -> Path:
    """The mailbox with the thread of a mail, and with threads of newer versions."""
    b4 = shutil.which("b4") or shutil.which("b4", path=str(Path(sys.executable).parent))
    by_hand = f"save the thread as a mailbox: https://lore.kernel.org/all/{id}/t.mbox.gz"
    if b4 is None:
        what = "b4 is not installed, which fetches a thread by its message-id"
        raise HostFault(what, hint=f"pip install b4; or {by_hand}")
    deadline = Deadline.after(_FETCH_S, f"b4 mbox {id}")
    try:
        with progress.task(f"fetch the thread of {id}"):
            process.run([b4, "mbox", "--check-newer-revisions", "-o", folder, "-n", "thread", "--", id], deadline)
    except process.ProcessFailed as error:
        raise HostFault(f"b4 did not get the thread of {id}", hint=by_hand, evidence=error.evidence) from error
    found = sorted(folder.glob("thread*"))
    if not found:
        raise UsageError(
            f"lore.kernel.org has no mail {id}", expected="the message-id of a patch or its cover letter"
        )
    return found[0]
