"""Running a host program: a deadline, its output as evidence, and no orphan left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HostFault

_TAIL_LINES = 30  # enough for a compiler's first error with its context


class ProcessFailed(HostFault):
    """A host program exited non-zero: `argv`, `returncode`, `output` (stdout and stderr together)."""

    def __init__(self, argv: Sequence[str], returncode: int, output: str) -> None:
        super().__init__(
            f"{Path(argv[0]).name} failed",
            expected="exit status 0",
            found=f"exit status {returncode} from: {' '.join(argv)}",
            evidence=tail(output),
        )
        self.argv = tuple(argv)
        self.returncode = returncode
        self.output = output


def tail(text: str, lines: int = _TAIL_LINES) -> str:
    """The last `lines` lines of `text`."""
    return "\n".join(text.splitlines()[-lines:])


def run(
    argv: Sequence[str | Path],
    deadline: Deadline,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    log: Path | None = None,
) -> str:
    """Runs `argv` to its end and returns stdout and stderr, interleaved.

    The child leads its own process group, which is killed whole on any way out, Ctrl-C included.
    `env` is added to the environment. `log` receives the output as well, whatever happens.

    Raises ProcessFailed on a non-zero exit, DeadlineExceeded when time is up, HostFault when the
    program is not there.
    """
    words = [str(word) for word in argv]
    try:
        child = subprocess.Popen(
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise HostFault(f"{words[0]} is not installed", hint="run `make setup`") from error
    output = ""
    try:
        output, _ = child.communicate(stdin, timeout=deadline.remaining())
    except subprocess.TimeoutExpired as error:
        output = error.output.decode(errors="replace") if isinstance(error.output, bytes) else error.output or ""
        raise deadline.exceeded(tail(output)) from error
    finally:
        kill_group(child)
        if log is not None:
            log.write_text(output)
    if child.returncode != 0:
        raise ProcessFailed(words, child.returncode, output)
    return output


def kill_group(child: subprocess.Popen[str]) -> None:
    """Kills what is left of the child's process group and reaps the child."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
