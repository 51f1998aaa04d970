"""`python -m harness.bench.life`: boots a guest, runs `uname -r` in it, and powers it off.

A command of its own, since what it is compared with is one. The machine is as large as virtme-ng's: as many vCPUs as
the host has CPUs, and 1 GB.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.bench.setup import Setup
from harness.deadline import Deadline
from harness.guest.boot import GuestPlan, fresh
from harness.guest.session import Session
from harness.machine.argv import MachineSpec
from harness.machine.host import cpus

_MEMORY_MIB = 1024
_LIFE_S = 300.0


def first_command(session: Session, deadline: Deadline) -> str:
    """Starts the machine and returns what the first command over SSH answers: the kernel's release."""
    session.machine.start(deadline)
    session.machine.wait_ready(deadline)
    session.shell.connect(deadline)
    return session.run("uname -r", deadline).stdout.strip()


def main() -> None:
    """Prints the release."""
    deadline = Deadline.after(_LIFE_S, "a guest's whole life")
    spec = MachineSpec(cpus=cpus(), memory_mib=_MEMORY_MIB)
    with tempfile.TemporaryDirectory(prefix="harness-bench.") as name:
        folder = Path(name)
        setup = Setup(folder)
        with fresh(GuestPlan(setup.kernel, setup.engine, setup.qemu, spec), folder, deadline) as session:
            print(first_command(session, deadline))
            session.shell.start("poweroff -f", deadline)
            session.machine.wait_power_off(deadline)


if __name__ == "__main__":
    main()
