"""What came into a kernel between two nights: commits of a branch, or another version of a package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness import process
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.fleet.frozen import FrozenKernel

_SHOWN = 10  # commits; `commits` says how to see all


@dataclass(frozen=True)
class Span:
    """From one kernel to another. `text` is one line; `commits` is what `git log` takes, "" for no git."""

    text: str
    commits: str = ""
    newest: tuple[str, ...] = ()  # `git log --oneline`, the newest first, at most ten

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "commits": self.commits, "newest": list(self.newest)}


def span(old: FrozenKernel, new: FrozenKernel, deadline: Deadline) -> Span:
    """What changed. A repository that is not there, or has lost the older commit, leaves the two revisions."""
    if old.key == new.key and new.key:
        return Span("the same kernel, byte for byte")
    if old.revision == new.revision:
        otherwise = ", patched or built otherwise" if old.key and new.key else ""
        return Span(f"the same source ({_short(new)}){otherwise}")
    revisions = f"{_short(old)} → {_short(new)}"
    if not new.repository or not old.repository:
        return Span(revisions)
    try:
        return _commits(new.repository, old.revision, new.revision, deadline)
    except HarnessError as error:
        return Span(f"{revisions} ({error.what}: the commits cannot be counted)")


def _short(kernel: FrozenKernel) -> str:
    return (kernel.revision[:12] if kernel.repository else kernel.revision) or "nothing"


def _commits(repository: str, old: str, new: str, deadline: Deadline) -> Span:
    git = ("git", "-C", repository)
    dropped, added = process.run([*git, "rev-list", "--left-right", "--count", f"{old}...{new}"], deadline).split()
    commits = f"{old[:12]}..{new[:12]}"
    log = process.run([*git, "log", "--oneline", "--no-decorate", f"--max-count={_SHOWN}", commits], deadline)
    rebased = f", without {dropped} that were there" if dropped != "0" else ""
    return Span(f"{added} commit{'s' * (added != '1')}{rebased}", commits, tuple(log.splitlines()))
