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
from harness.cache import locked
from harness.deadline import MOST_PATIENCE, PATIENCE, Deadline, patience
from harness.errors import Exit, HostFault, UsageError
from harness.lab import users
from harness.lab.keeper import LIVE, LOG, MACHINE, LiveLab, kept
from harness.lab.outer import cache_folder, prepare, require_apart
from harness.paths import PROJECT
from harness.process import tail

_START_S = 660.0  # longer than its keeper's own
_END_S = 30.0
_LAST_WORDS_S = 15.0  # a QEMU that does not listen is asked to quit, and killed 6 s later
_ORDERLY_S = 60.0  # for a command that was interrupted: it ends its guest, and completes its folder
_LOOK_S = 0.1
_LOST = 255  # ssh's exit status when it is ssh that failed

# In the lab. Python's compiled files are kept there: the project's folder is not written to.
_PYCACHE = "/var/cache/pycache"

# Measured at a load of 7 on two cores: a guest of the lab boots in 50 to 110 s, where one of tcg-svm does in 20.
_PATIENCE = 4


def lab_folder() -> Path:
    return cache_folder() / "lab"


def up(deadline: Deadline) -> LiveLab:
    """The lab of this user, started when there is none. It stays until `down`. Raises what `at_hand` raises."""
    with at_hand(deadline) as lab:
        users.stay(lab_folder(), wanted=True)
        return lab


@contextlib.contextmanager
def at_hand(deadline: Deadline, *, any_runs: bool = False) -> Iterator[LiveLab]:
    """The lab, started when there is none; it then ends with the last block of this kind, in whichever process.

    Raises HostFault with its last words when it does not start, UsageError for one with another folder of runs,
    unless `any_runs` will do.
    """
    folder, runs = lab_folder(), paths.runs_dir().resolve()
    require_apart(runs)
    with contextlib.ExitStack() as used:
        with locked(folder / "start.lock", deadline):
            used.enter_context(users.using(folder, deadline))
            _wait_for_keeper(folder, deadline)
            lab = LiveLab.read(folder) or _started(folder, runs, deadline)
        if lab.runs != str(runs) and not any_runs:
            raise UsageError(
                "the lab writes runs to another folder",
                expected=str(runs),
                found=lab.runs,
                hint=f"HARNESS_RUNS={shlex.quote(lab.runs)}, or `harness lab down` and up again",
            )
        yield lab


def _wait_for_keeper(folder: Path, deadline: Deadline) -> None:
    """Waits for a keeper that ends its lab, or starts one for somebody who is gone."""
    while kept(folder) and LiveLab.read(folder) is None:
        deadline.check(f"a lab is being started or ended: see {folder / LOG}")
        deadline.pause(_LOOK_S)


def _started(folder: Path, runs: Path, deadline: Deadline) -> LiveLab:
    runs.mkdir(parents=True, exist_ok=True)
    prepare(deadline)
    # Of a lab that was killed: they would pass for those of the new one.
    (folder / LIVE).unlink(missing_ok=True)
    users.stay(folder, wanted=False)
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
            env={**os.environ, "HARNESS_CACHE": str(cache_folder())},  # a relative one would be another there
            start_new_session=True,  # it outlives this command, and does not hear its Ctrl-C
        )
    try:
        while (lab := LiveLab.read(folder)) is None:
            if keeper.poll() is not None:
                raise HostFault("the lab does not start", evidence=_words(folder), hint=_SEE.format(folder / MACHINE))
            deadline.check(_words(folder))
            deadline.pause(_LOOK_S)
    except BaseException:
        keeper.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(_END_S)
        raise
    return lab


_SEE = "see {}/console.log"


def _words(folder: Path) -> str:
    """What the keeper said last."""
    log = folder / LOG
    return tail(log.read_text(errors="replace")) if log.exists() else ""


def down() -> bool:
    """Ends the lab, whoever uses it; False when there was none. Raises DeadlineExceeded when it does not end."""
    folder = lab_folder()
    if not folder.is_dir() or not kept(folder):
        return False
    deadline = Deadline.after(_END_S, "the end of the lab")
    while kept(folder):
        if lab := LiveLab.read(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(lab.pid, signal.SIGTERM)
        deadline.check(f"it is being started, or does not end: see {folder / LOG}")
        deadline.pause(_LOOK_S)
    return True


def harness(lab: LiveLab, words: Sequence[str]) -> int:
    """Runs the harness in the lab with `words`; returns its exit status. What it prints is printed here.

    Raises HostFault when the lab is lost.
    """
    environment = {
        "HARNESS_CACHE": str(cache_folder()),
        "HARNESS_RUNS": lab.runs,
        PATIENCE: f"{min(MOST_PATIENCE, _PATIENCE * patience()):g}",
        "PYTHONPATH": str(PROJECT),
        "PYTHONPYCACHEPREFIX": _PYCACHE,
        "COLUMNS": str(shutil.get_terminal_size().columns),
    }
    settings = [f"{name}={value}" for name, value in environment.items()]
    inside = shlex.join(["env", *settings, "python3", "-m", "harness.cli.inside", *words])
    return _ssh(
        lab, [f"cd {shlex.quote(lab.runs)} || exit {Exit.HARNESS_FAULT:d}; exec {inside}"], stdin=subprocess.PIPE
    )


def command(lab: LiveLab, line: str, *, terminal: bool) -> int:
    """Runs a command line in the lab, or a shell for ""; returns its exit status. Raises HostFault when ssh fails."""
    return _ssh(lab, [*(["-t"] if terminal else []), *([line] if line else [])], stdin=None)


def _ssh(lab: LiveLab, more: Sequence[str], stdin: int | None) -> int:
    """With a pipe for stdin, that ends when this process does, and Ctrl-C is for this process alone."""
    if shutil.which(lab.ssh[0]) is None:
        raise HostFault("ssh is not installed", hint="apt-get install openssh-client")
    with subprocess.Popen([*lab.ssh, *more], stdin=stdin, start_new_session=stdin is not None) as ssh:
        try:
            status = ssh.wait()
        except BaseException:
            _let_end(ssh)
            raise
    if status == _LOST or status < 0:
        raise _lost()
    return status


def _let_end(ssh: subprocess.Popen[bytes]) -> None:
    """The end of its stdin interrupts the command, which then has some time; a second Ctrl-C ends that, too."""
    try:
        if ssh.stdin is not None:
            ssh.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                ssh.wait(_ORDERLY_S)
    finally:
        ssh.terminate()


def _lost() -> HostFault:
    """With the words of its keeper, who notices why, and ends a moment later."""
    folder = lab_folder()
    deadline = Deadline.after(_LAST_WORDS_S, "the keeper's last words")
    while kept(folder):
        if deadline.expired:
            return HostFault("ssh has ended with status 255, and the lab is still up", hint="`harness lab down`")
        deadline.pause(_LOOK_S)
    return HostFault("the lab was lost", evidence=_words(folder), hint=_SEE.format(folder / MACHINE))


def visible(path: Path, lab: LiveLab) -> Path:
    """The absolute path of a file of the host in the lab, which has it at its own place, without symbolic links.

    Raises UsageError for one that the lab does not see.
    """
    found = path.resolve()
    folders = (PROJECT, cache_folder(), Path(lab.runs))
    if not any(found.is_relative_to(folder) for folder in folders):
        raise UsageError(
            f"the lab does not see {path}",
            expected=f"a file in one of: {', '.join(map(str, folders))}",
            hint=shlex.join(["cp", str(path), lab.runs]) if path.exists() else f"a file in {lab.runs}",
        )
    return found
