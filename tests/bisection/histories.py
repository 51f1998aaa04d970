"""Small git repositories to bisect."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.cache import locked
from harness.deadline import Deadline
from harness.kernels import BuildOptions, resolve
from harness.kernels.modules import _Workshop
from harness.kernels.packaged import DebianSource, packages_of
from harness.paths import PROJECT

_SVM = "arch/x86/kvm/svm/svm.c"
_MAIN = "virt/kvm/kvm_main.c"
_SHUTDOWN = "kvm: exiting hardware virtualization"
_MUTANT = PROJECT / "patches/mutants/6.12/misc-register-first.patch"


@dataclass
class Repository:
    """A repository; `ids` are its commits by title, the oldest first."""

    path: Path
    ids: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, path: Path) -> Repository:
        path.mkdir(parents=True)
        made = cls(path)
        made.git("init", "--quiet", "--initial-branch", "main")
        made.git("config", "user.name", "A Developer")
        made.git("config", "user.email", "dev@example.org")
        return made

    def git(self, *words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=self.path, check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()

    def commit(self, title: str, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", title)
        self.ids[title] = self.git("rev-parse", "HEAD")

    @property
    def state(self) -> tuple[str, ...]:
        """All of a repository that a bisection of its user's would change."""
        return (
            self.git("status", "--porcelain=v2", "--branch"),
            self.git("for-each-ref"),
            self.git("worktree", "list"),
            # An empty packed-refs is left where a reference has been removed.
            "\n".join(sorted({path.name for path in (self.path / ".git").iterdir()} - {"packed-refs"})),
        )


def plain_history(path: Path, commits: int = 8) -> Repository:
    """Commits c0 to c7 of a file that is nothing."""
    repository = Repository.make(path)
    for number in range(commits):
        repository.commit(f"c{number}", {_MAIN: f"int version = {number};\n"})
    return repository


def kvm_history(path: Path, deadline: Deadline) -> Repository:
    """Debian's 6.12 as a developer would go on with it: two commits do not compile, and one is a mutant."""
    repository = Repository.make(path)
    files = _sources([_SVM, _MAIN], deadline)
    repository.commit("KVM as Debian has it", files)

    def change(title: str, name: str, edit: Callable[[str], str]) -> None:
        changed = edit(files[name])
        assert changed != files[name]
        files[name] = changed
        repository.commit(title, {name: changed})

    told, shutdown = (f'pr_info("{text}\\n");' for text in ("Nested Virtualization enabled", _SHUTDOWN))
    change("KVM: SVM: Say it in lower case", _SVM, lambda text: text.replace(told, told.lower()))
    change("KVM: SVM: Begin a clean-up", _SVM, lambda text: text.replace(told.lower(), "nested_is_on();"))
    change("KVM: SVM: Go on with the clean-up", _SVM, lambda text: text.replace("nested_is_on();", "say_nested();"))
    change("KVM: SVM: Complete the clean-up", _SVM, lambda text: text.replace("say_nested();", told))
    repository.git("apply", str(_MUTANT))
    repository.commit("KVM: Tell user space as soon as possible", {})
    files[_MAIN] = (path / _MAIN).read_text()
    change("KVM: Say less at shutdown", _MAIN, lambda text: text.replace(shutdown, shutdown.replace("kvm: ", "")))
    return repository


def _sources(names: list[str], deadline: Deadline) -> dict[str, str]:
    """Files of Debian's 6.12 as they come, out of where its modules are rebuilt."""
    stock = resolve("debian:6.12", BuildOptions(), deadline)
    workshop = _Workshop(packages_of(DebianSource(stock.spec).identity(deadline, update=False))[0], "", stock.release)
    with locked(workshop.lock, deadline):
        workshop.prepare(deadline)
        return {name: (workshop._tree / name).read_text() for name in names}
