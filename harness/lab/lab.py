"""A lab as its user has it: up, a command in it, down."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness import paths, progress
from harness.deadline import PATIENCE, Deadline
from harness.errors import HostFault, UsageError
from harness.lab.keeper import LIVE, LOG, MACHINE, LiveLab, kept
from harness.lab.outer import prepare
from harness.paths import PROJECT
from harness.process import tail

_START_S = 660.0  # longer than its keeper's own
_END_S = 30.0
_LAST_WORDS_S = 5.0
_LOOK_S = 0.1
_LOST = 255  # ssh's exit status when it is ssh that failed

# In the lab. Python's compiled files are kept there: the project's folder is not written to.
_PYCACHE = "/var/cache/pycache"

# Measured at a load of 7 on two cores: a guest of the lab boots in 50 to 110 s, where one of tcg-svm does in 20.
_PATIENCE = "4"


def lab_folder() -> Path:
    return paths.cache_dir().absolute() / "lab"


def up(deadline: Deadline) -> LiveLab:
    """The lab of this user, started when there is none.

    Raises HostFault with its last words when it does not start, UsageError for one with another folder of runs.
    """
    folder = lab_folder()
    folder.mkdir(parents=True, exist_ok=True)
    runs = paths.runs_dir().absolute()
    if lab := LiveLab.read(folder):
        if lab.runs != str(runs):
            raise UsageError(
                "the lab writes runs to another folder",
                expected=str(runs),
                found=lab.runs,
                hint="harness lab down, and up again",
            )
        return lab
    runs.mkdir(parents=True, exist_ok=True)
    prepare(deadline)
    with progress.task("start the lab"):
        return _start(folder, runs, deadline.sooner(_START_S, "the start of the lab"))


def _start(folder: Path, runs: Path, deadline: Deadline) -> LiveLab:
    with (folder / LOG).open("wb") as log:
        words = [sys.executable, "-m", "harness.lab.keeper", str(folder), str(runs)]
        keeper = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=PROJECT,
            start_new_session=True,  # it outlives this command, and does not hear its Ctrl-C
        )
    try:
        while (lab := LiveLab.read(folder)) is None:
            if keeper.poll() is not None:
                said = tail((folder / LOG).read_text(errors="replace"))
                raise HostFault("the lab does not start", evidence=said, hint=f"see {folder / MACHINE}/console.log")
            deadline.check()
            deadline.pause(_LOOK_S)
    except BaseException:
        keeper.terminate()
        raise
    return lab


def down() -> bool:
    """Ends the lab; False when there was none. Raises DeadlineExceeded when it does not end."""
    folder = lab_folder()
    lab = LiveLab.read(folder) if folder.is_dir() else None
    if lab is None:
        return False
    deadline = Deadline.after(_END_S, "the end of the lab")
    with contextlib.suppress(ProcessLookupError):
        os.kill(lab.pid, signal.SIGTERM)
    while (folder / LIVE).exists() or kept(folder):
        deadline.check(f"process {lab.pid} keeps it")
        deadline.pause(_LOOK_S)
    return True


@contextlib.contextmanager
def at_hand(deadline: Deadline) -> Iterator[LiveLab]:
    """The lab; one that is started for the block ends with it."""
    there = lab_folder().is_dir() and LiveLab.read(lab_folder()) is not None
    lab = up(deadline)
    try:
        yield lab
    finally:
        if not there:
            down()


def harness(lab: LiveLab, words: Sequence[str]) -> int:
    """Runs the harness in the lab with `words`; returns its exit status. What it prints is printed here.

    Raises HostFault when the lab is lost.
    """
    environment = {
        "HARNESS_CACHE": str(paths.cache_dir().absolute()),
        "HARNESS_RUNS": lab.runs,
        PATIENCE: _PATIENCE,
        "PYTHONPATH": str(PROJECT),
        "PYTHONPYCACHEPREFIX": _PYCACHE,
        "COLUMNS": str(shutil.get_terminal_size().columns),
    }
    settings = [f"{name}={value}" for name, value in environment.items()]
    inside = shlex.join(["env", *settings, "python3", "-m", "harness.cli.inside", *words])
    return _ssh(lab, [f"cd {shlex.quote(lab.runs)} && exec {inside}"], stdin=subprocess.PIPE)


def command(lab: LiveLab, line: str, *, terminal: bool) -> int:
    """Runs a command line in the lab, or a shell for ""; returns its exit status. Raises HostFault when ssh fails."""
    return _ssh(lab, [*(["-t"] if terminal else []), *([line] if line else [])], stdin=None)


def _ssh(lab: LiveLab, more: Sequence[str], stdin: int | None) -> int:
    """With a pipe for stdin, that ends when this process does."""
    if shutil.which(lab.ssh[0]) is None:
        raise HostFault("ssh is not installed", hint="apt-get install openssh-client")
    with subprocess.Popen([*lab.ssh, *more], stdin=stdin) as ssh:
        try:
            status = ssh.wait()
        except BaseException:
            ssh.terminate()
            raise
    if status == _LOST:
        raise _lost()
    return status


def _lost() -> HostFault:
    """With the words of its keeper, who notices why, and ends a moment later."""
    folder = lab_folder()
    deadline = Deadline.after(_LAST_WORDS_S, "the keeper's last words")
    while kept(folder) and not deadline.expired:
        deadline.pause(_LOOK_S)
    said = tail((folder / LOG).read_text(errors="replace")) if (folder / LOG).exists() else ""
    return HostFault(
        "the lab was lost", evidence=said, hint=f"see {folder / MACHINE}/console.log, then `harness lab down`"
    )


def visible(path: Path, lab: LiveLab) -> Path:
    """The absolute path of a file of the host, which is its path in the lab too.

    Raises UsageError for one that the lab does not see.
    """
    found = path.absolute()
    folders = (PROJECT, paths.cache_dir().absolute(), Path(lab.runs))
    if not any(found.is_relative_to(folder) for folder in folders):
        raise UsageError(
            f"the lab does not see {path}",
            expected=f"a file in one of: {', '.join(map(str, folders))}",
            hint=f"cp {path} {lab.runs}",
        )
    return found
