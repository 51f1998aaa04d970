"""The QEMU process: started on a leash, its words kept, always reaped."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from harness import process
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.machine.bell import Bell

# The kernel kills the child when the thread that started it is gone (PR_SET_PDEATHSIG, kept across execve), however
# that came about. The shell closes the gap before the leash was on: whoever has another parent by then gives up.
# QEMU's own -run-with exit-with-parent=on does it only once its arguments are parsed, and by a SIGTERM, which a QEMU
# whose main loop is stuck does not hear.
_LEASH = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", 'test "$PPID" = "$0" && exec "$@"')

_REAP_S = 10.0  # after SIGKILL; only a process in uninterruptible sleep takes longer


class QemuProcess:
    """One QEMU, from start to reaped.

    Its keeper, a thread of its own, starts it and then waits for it: the leash hangs on a thread, and this one lives
    exactly as long as QEMU does.
    """

    def __init__(self, argv: Sequence[str], log: Path, pass_fds: Sequence[int], bell: Bell) -> None:
        """Starts `argv`, with stdout and stderr in `log` and the descriptors `pass_fds` inherited.

        Raises HostFault when the program cannot be started.
        """
        self._argv = list(argv)
        self._log = log
        self._bell = bell
        self._child: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        self._returncode: int | None = None
        self._reaping = threading.Lock()
        self._started = threading.Event()
        self._reaped = threading.Event()
        threading.Thread(target=self._keep, args=(tuple(pass_fds),), name="qemu-keeper", daemon=True).start()
        try:
            self._started.wait()
        except BaseException:  # Ctrl-C here: nobody would have the object to close it
            self.kill()
            raise
        if self._failure is not None:
            raise HostFault("QEMU cannot be started", found=str(self._failure), hint="run `harness doctor`")

    @property
    def pid(self) -> int:
        assert self._child is not None  # __init__ raised otherwise
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._returncode

    def words(self) -> str:
        """The last lines that QEMU wrote on stdout and stderr."""
        return process.tail(self._log.read_text(errors="replace")) if self._log.exists() else ""

    def ending(self) -> str:
        """How it ended, for people: `exit status 1`, `killed by SIGKILL`."""
        code = self._returncode
        if code is None:
            return "still running"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def wait(self, seconds: float) -> bool:
        """Whether it ended within `seconds`."""
        return self._reaped.wait(seconds)

    def kill(self) -> None:
        """Kills it and waits until it is reaped. Raises DeadlineExceeded for one that cannot be killed."""
        self._started.wait()
        if self._child is None:
            return
        with self._reaping:
            if self._returncode is None:
                self._child.kill()
        deadline = Deadline.after(_REAP_S, "reaping QEMU")
        if not self._reaped.wait(deadline.remaining()):
            raise deadline.exceeded(f"process {self._child.pid} does not die; see its state in /proc")

    def _keep(self, pass_fds: tuple[int, ...]) -> None:
        try:
            with self._log.open("wb") as log:
                self._child = subprocess.Popen(
                    [*_LEASH, str(os.getpid()), *self._argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=pass_fds,
                    start_new_session=True,  # Ctrl-C on the terminal is for the harness, which then closes QEMU
                )
        except OSError as error:
            self._failure = error
            return
        finally:
            self._started.set()
        os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        with self._reaping:  # until here the pid is QEMU's own, dead or alive; from here on it may be anybody's
            self._returncode = self._child.wait()
        self._reaped.set()
        self._bell.ring()
