"""Who runs the cells of a night: processes on this host. `lab.py` has the other answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.errors import HarnessError
from harness.fleet.cell import CellRun
from harness.machine.auto import Tools
from harness.machine.engine import AUTO, Engine, by_name
from harness.machine.host import host_cpu
from harness.report.result import RunResult
from harness.run.batch import fitting_workers
from harness.scenario.machine import MachineSection
from harness.workers import in_parallel

Work = Callable[[CellRun], RunResult]  # `run_cell`


class Pool(Protocol):
    """Runs cells, several at a time."""

    def choose(self, name: str, machine: MachineSection) -> Engine:
        """The engine that `name` of a matrix means for a scenario's machine. Raises HostFault when there is none."""

    def run(
        self, work: Work, runs: Sequence[CellRun], given: Callable[[int], None]
    ) -> Iterator[tuple[int, RunResult | HarnessError]]:
        """Does `work` for each of `runs`; yields index and outcome as they come to their end.

        `given` is told the index of one that begins, if this process would not survive what it does to the host.
        """


@dataclass
class LocalPool:
    """Processes on this host, `jobs` at a time; None: as many as it has CPUs and memory for."""

    jobs: int | None

    def __post_init__(self) -> None:
        self._tools: dict[str, Tools] = {}

    def choose(self, name: str, machine: MachineSection) -> Engine:
        """An engine that is named is not proven before its cells run: where it does not work, they fail, and those
        of other engines run."""
        if name != AUTO:
            return by_name(name, host_cpu().vendor)
        return self._tools.setdefault(name, Tools(name)).engine(machine)

    def run(
        self, work: Work, runs: Sequence[CellRun], given: Callable[[int], None]
    ) -> Iterator[tuple[int, RunResult | HarnessError]]:
        workers = fitting_workers([run.scenario for run in runs], self.jobs)
        return in_parallel(work, runs, workers, lambda run: run.title, given)
