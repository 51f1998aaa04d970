"""Whole runs of scenarios, from a snapshot and by a boot, and what of a run the snapshot's restoration takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.bench.setup import KERNEL, Setup
from harness.deadline import Deadline
from harness.errors import Exit, HostFault
from harness.guest.boot import GuestPlan, restored
from harness.machine.argv import MachineSpec
from harness.machine.engine import Engine, by_name
from harness.paths import PROJECT, runs_in
from harness.probes.kallsyms import symbol_table
from harness.report.result import RunResult
from harness.run import Job, run_job
from harness.run.warm import warm_guest
from harness.scenario.load import load_scenario

LOAD_UNLOAD = "load, VM, unload: a run from a snapshot"
LOAD_UNLOAD_COLD = "load, VM, unload: a run by a boot"
RACE = "the reboot race on 7.3: a run from a snapshot"
RACE_COLD = "the reboot race on 7.3: a run by a boot"
RESTORED = "restored, from QEMU's start to a running guest"
CONNECTED = "  → SSH command answered"

_SCENARIOS = PROJECT / "scenarios"


def confirmed(job: Job, name: str) -> RunResult:
    """The result of a run. Raises HostFault with the verdicts when not all of them are *confirmed*."""
    result = run_job(job)
    if result.exit is not Exit.CONFIRMED:
        verdicts = ", ".join(f"{claim.use.claim.id} {claim.verdict.value}" for claim in result.judgement.claims)
        raise HostFault(f"{name} was not confirmed", found=verdicts, evidence=result.fault)
    return result


@dataclass
class ScenarioRun:
    """One run of a scenario up to its verdict, in a process that has read the kernel's files already."""

    setup: Setup
    name: str
    scenario: str  # below scenarios/
    kernel: str = KERNEL
    engine: str = ""  # the setup's
    cold: bool = False

    def prepare(self, deadline: Deadline) -> None:
        """Runs it once: that makes the snapshot, and fills the caches."""
        self.run(deadline)

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        engine = by_name(self.engine, "") if self.engine else self.setup.engine
        job = Job(load_scenario(_SCENARIOS / self.scenario), self.kernel, engine, self.setup.qemu, cold=self.cold)
        with (
            tempfile.TemporaryDirectory(dir=self.setup.scratch) as folder,
            runs_in(Path(folder)),
        ):
            begin = time.monotonic()
            confirmed(job, self.scenario)
            seconds = time.monotonic() - begin
        return {self.name: seconds}


class Restored:
    """The standard machine from a snapshot, until a command over SSH has answered."""

    name = RESTORED

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def prepare(self, deadline: Deadline) -> None:
        self._snapshot()

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        with (
            tempfile.TemporaryDirectory(dir=self._setup.scratch) as folder,
            restored(self._plan, self._snapshot(), Path(folder), deadline) as session,
        ):
            begin = time.monotonic()
            session.start(deadline)
            running = time.monotonic()
            session.enter(deadline)
            session.run("uname -r", deadline)
            return {RESTORED: running - begin, CONNECTED: time.monotonic() - running}

    @property
    def _plan(self) -> GuestPlan:
        engine: Engine = self._setup.engine
        return GuestPlan(self._setup.kernel, engine, self._setup.qemu, MachineSpec())

    def _snapshot(self) -> Path:
        snapshot = warm_guest(self._plan, symbol_table(self._setup.kernel, self._setup.qemu))
        if snapshot is None:
            raise HostFault("there is no snapshot to restore")
        return snapshot
