"""A keeper that keeps no machine: `python3 -m tests.lab.without_machine BOOT_S FOLDER RUNS`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from harness.deadline import Deadline
from harness.lab import keeper
from harness.machine.argv import TRACE_LOG


@contextlib.contextmanager
def without_machine(
    folder: Path, runs: Path, deadline: Deadline
) -> Iterator[tuple[SimpleNamespace, SimpleNamespace]]:
    (folder / TRACE_LOG).touch()
    machine = SimpleNamespace(
        start=lambda _: time.sleep(boot_s),
        wait_ready=lambda _: None,
        check=lambda: None,
        ssh_port=1,
        spec=SimpleNamespace(cpus=0),
    )
    yield machine, SimpleNamespace(ssh_command=lambda port: ("ssh", str(port)))


if __name__ == "__main__":
    boot_s = float(sys.argv.pop(1))
    vars(keeper)["outer_machine"] = without_machine
    sys.exit(keeper.main())
