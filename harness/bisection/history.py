"""A git repository as a bisection reads it. Nothing of the user's is written: no checkout, no index, no branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import process
from harness.deadline import Deadline
from harness.errors import UsageError

_ASK_S = 120.0  # `git diff` between two versions of Linux takes 5 s from a cold disk


@dataclass(frozen=True)
class Commit:
    """`id` is the full object name, `title` the first line of the message."""

    id: str
    title: str

    @property
    def short(self) -> str:
        return self.id[:12]

    def __str__(self) -> str:
        return f'{self.short} ("{self.title}")'


@dataclass(frozen=True)
class History:
    """The repository in `path`, which may be a worktree or bare."""

    path: Path

    def git(self, *arguments: str | Path) -> str:
        """What `git ARGUMENTS` says. Raises ProcessFailed, DeadlineExceeded."""
        # A repository's hooks and external diffs are for its user.
        argv = ["git", "-C", self.path, "-c", "core.hooksPath=/dev/null", *arguments]
        return process.run(argv, Deadline.after(_ASK_S, f"git {arguments[0]} in {self.path}"))

    def commit(self, revision: str) -> Commit:
        """Raises UsageError when there is no such commit."""
        try:
            text = self.git("log", "-1", "--format=%H %s", "--end-of-options", f"{revision}^{{commit}}", "--")
        except process.ProcessFailed as error:
            raise UsageError(
                f"{self.path} has no revision {revision!r}",
                expected="a commit, tag or branch of a git repository",
                evidence=process.tail(error.output, 3),
            ) from error
        id, _, title = text.strip().partition(" ")
        return Commit(id, title)

    def between(self, good: str, bad: str) -> list[Commit]:
        """The commits that `bad` has and `good` has not, the newest first."""
        lines = self.git("log", "--format=%H %s", f"{good}..{bad}", "--").splitlines()
        return [Commit(*line.split(" ", 1)) for line in lines]

    def parents(self, commit: str) -> list[str]:
        return self.git("log", "-1", "--format=%P", commit, "--").split()

    def files_of(self, commit: str) -> list[str]:
        """The files that a commit changes; of a merge, those that neither side has like this."""
        return self.git("show", "--format=", "--name-only", commit, "--").split("\n")[:-1]

    def diff(self, old: str, new: str, folders: Sequence[str] = ()) -> str:
        """What makes `new` of `old`, in `folders`, for patch(1)."""
        plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--full-index")
        return self.git("diff", *plain, "--src-prefix=a/", "--dst-prefix=b/", old, new, "--", *folders)

    def story(self, commit: str) -> str:
        """Who changed what, and why, as `git log --stat` shows it."""
        return self.git("log", "-1", "--no-color", "--stat=90", "--no-decorate", commit, "--")
