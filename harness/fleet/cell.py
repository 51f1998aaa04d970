"""One run of a cell, in a process of its own: on this host, or on a worker of a lab."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from harness import paths
from harness.cache import disk_full
from harness.deadline import Deadline
from harness.errors import Exit, HostFault
from harness.fleet.frozen import FrozenKernel
from harness.machine.auto import Tools
from harness.machine.host import free_gib
from harness.report.result import RunResult
from harness.run import Job, run_job
from harness.scenario.model import Scenario

_CLEAN_UP_S = 60.0  # for a run that is out of time to end its guest and complete its folder


@dataclass(frozen=True)
class CellRun:
    """What is to be run: the attempt `number` of the cell `cell` (its id in the database)."""

    cell: int
    number: int
    scenario: Scenario
    kernel: FrozenKernel
    engine: str
    deadline_s: float  # of the run
    build_s: float  # of the kernel, where it is not in the cache yet
    free_mib: int
    runs: Path  # the folder that the run's folder is made in

    @property
    def title(self) -> str:
        return f"{self.scenario.name} on {self.kernel.name} {self.engine}"


def run_cell(run: CellRun) -> RunResult:
    """Runs and judges. Raises what `run_job` raises; DiskFull as `with_room` does; OutOfTime when it takes too long,
    in a process that has no other work in its main thread."""
    return with_room(run, lambda: _run(run))


def _run(run: CellRun) -> RunResult:
    run.kernel.resolve(Deadline.after(run.build_s, f"kernel {run.kernel.name}"))
    tools = Tools(run.engine)
    engine = tools.engine(run.scenario.machine)
    job = Job(run.scenario, run.kernel.spec, engine, tools.qemu, run.kernel.options, name=run.kernel.name)
    with paths.runs_in(run.runs), time_limit(run.deadline_s, run.title):
        return run_job(job)


def with_room(run: CellRun, work: Callable[[], RunResult]) -> RunResult:
    """Does `work`, a run. Raises DiskFull when too little is free for it, before it begins or when it failed.

    Programs have words of their own for a full disk, and a guest may just stop: a fault of the harness in a run that
    ends with less room than it needed to begin says nothing.
    """
    folders = (run.runs, paths.cache_dir())
    for folder in folders:
        require_space(folder, run.free_mib)
    result = work()
    if result.exit is Exit.HARNESS_FAULT:
        for folder in folders:
            require_space(folder, run.free_mib)
    return result


def require_space(folder: Path, mib: int) -> None:
    """Raises DiskFull when fewer than `mib` MiB are free in `folder`."""
    free = free_gib(folder) * 1024
    if free < mib:
        raise disk_full(f"{free:.0f} MiB are free, and {mib} (`free`) must be before a run begins", folder)


class OutOfTime(HostFault):
    """A run took longer than the matrix grants it.

    No DeadlineExceeded: whoever waits in the run takes that for a wait of his own that ran out, and the kernel for
    silent or the scenario for not exercised.
    """


@contextlib.contextmanager
def time_limit(seconds: float, what: str, clean_up_s: float = _CLEAN_UP_S) -> Iterator[None]:
    """Raises OutOfTime in the block, wherever it is, when time is up; ends the process if that is no help."""

    def alarm(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, lambda *_: os._exit(int(Exit.HARNESS_FAULT)))
        raise OutOfTime(f"timed out: {what} took longer than {seconds:.0f} s (`deadline`)")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds, clean_up_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
