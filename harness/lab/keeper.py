"""The process behind a lab: `python3 -m harness.lab.keeper FOLDER RUNS`, from its start to its end.

QEMU is on its leash, so a lab whose keeper is gone is gone. It says where it can be reached in FOLDER/live.json,
which is there as long as the lab answers; what a killed keeper left there is taken away before the next one starts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from harness.cache import disk_full_is_a_host_fault, locked
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.lab import users
from harness.lab.outer import outer_machine
from harness.lab.pulse import Pulse
from harness.machine.argv import TRACE_LOG

LIVE = "live.json"
LOG = "keeper.log"
MACHINE = "machine"

_LOCK = "keeper.lock"
_START_S = 600.0  # a boot takes 10 s on an idle host, and 28 s at a load of 7 on two cores
_TAKE_S = 10.0  # others have the lock for an instant, to see whether a lab is kept
_LOOK_S = 0.5


@dataclass(frozen=True)
class LiveLab:
    """A lab that answers."""

    pid: int  # of its keeper
    ssh: tuple[str, ...]  # the words that log in
    runs: str  # the folder of the host that runs are written to
    since: float  # seconds of the epoch
    boot_s: float  # from the start of QEMU until it was ready

    @classmethod
    def read(cls, folder: Path) -> LiveLab | None:
        """The lab of `folder`, if one lives."""
        try:
            fields: Mapping[str, Any] = json.loads((folder / LIVE).read_text())
        except FileNotFoundError:
            return None
        return cls(**{**fields, "ssh": tuple(fields["ssh"])}) if kept(folder) else None

    def write(self, folder: Path) -> None:
        new = folder / f"{LIVE}.new"
        new.write_text(json.dumps(dataclasses.asdict(self)))
        new.replace(folder / LIVE)


def kept(folder: Path) -> bool:
    """Whether a keeper is at work in `folder`. What a killed one left there says nothing."""
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except Timeout:
        return True


def keep(folder: Path, runs: Path) -> None:
    """Starts the lab, and ends it when its last user has left, or at SIGTERM, by SystemExit.

    Raises HostFault when there is one, or when it ends by itself.
    """
    signal.signal(signal.SIGTERM, _end)
    with (
        locked(folder / _LOCK, Deadline.after(_TAKE_S, "the end of another lab")),
        disk_full_is_a_host_fault(folder),
    ):
        shutil.rmtree(folder / MACHINE, ignore_errors=True)
        (folder / MACHINE).mkdir()
        deadline = Deadline.after(_START_S, "the start of the lab")
        with outer_machine(folder / MACHINE, runs, deadline) as (machine, keys):
            began = time.monotonic()
            machine.start(deadline)
            machine.wait_ready(deadline)
            took = time.monotonic() - began
            ssh = keys.ssh_command(machine.ssh_port)
            LiveLab(os.getpid(), ssh, str(runs), time.time(), round(took, 1)).write(folder)
            pulse = Pulse(folder / MACHINE / TRACE_LOG, machine.spec.cpus)
            try:
                while not users.left(folder, folder / LIVE):
                    machine.check()
                    pulse.check()
                    time.sleep(_LOOK_S)
            finally:
                (folder / LIVE).unlink(missing_ok=True)


def _end(number: int, frame: FrameType | None) -> None:
    """Wherever it is: a lab that is still being started ends, too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # that takes a moment, which a second one is not to cut short
    raise SystemExit("ended on request, as by `harness lab down`")


def main() -> int:
    folder, runs = map(Path, sys.argv[1:])
    try:
        keep(folder, runs)
    except HarnessError as error:
        print(error, file=sys.stderr)
        return int(error.exit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
