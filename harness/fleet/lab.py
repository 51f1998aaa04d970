"""A lab: workers on other hosts, that a Dask scheduler hands the cells of a night to.

Each worker announces how it has virtualization (`resources.py`), and each job asks for what it needs. A worker that
dies has its jobs done by others; one that kills worker after worker is given up by the scheduler
(`distributed.scheduler.allowed-failures`).
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any

from distributed import Client, Future, KilledWorker, Worker, wait

from harness import progress
from harness.errors import HarnessError, HostFault, NotExercised
from harness.fleet.cell import CellRun
from harness.fleet.parcel import Delivery, Parcel, deliver
from harness.fleet.pool import Work
from harness.fleet.resources import NAMES, resource
from harness.machine.engine import AUTO, ENGINES, Engine, by_name
from harness.report.result import RunResult
from harness.scenario.machine import MachineSection

_CONNECT_S = 30.0
_LOOK_EVERY_S = 5.0  # for workers that have gone
_PICKLE_HINT = "the scheduler and every worker need the same version of the harness"


class LabPool:
    """The workers of the scheduler at `address` (tcp://HOST:PORT).

    A cell waits `patience_s` for a worker that has what it needs. Raises HostFault when nobody answers.
    """

    def __init__(self, address: str, patience_s: float, connect_s: float = _CONNECT_S) -> None:
        self.address = address
        self.patience_s = patience_s
        try:
            self._client = Client(address, timeout=connect_s)
        except (OSError, ValueError, TimeoutError) as error:
            hint = "`dask scheduler` starts one, and `harness worker` brings hosts to it"
            raise HostFault(f"no Dask scheduler answers at {address}: {error}", hint=hint) from error

    def __enter__(self) -> LabPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def workers(self) -> list[set[str]]:
        """What each worker announces that the lab has at the moment."""
        with self._scheduler_there():
            found: dict[str, dict[str, Any]] = self._client.scheduler_info(n_workers=-1)["workers"]
        return [set(worker["resources"]) for worker in found.values()]

    def announced(self) -> set[str]:
        """What any worker announces."""
        return set().union(*self.workers())

    def choose(self, name: str, machine: MachineSection) -> Engine:
        """As on one host, with what is announced in the place of what is proven. An engine that nobody announces is
        chosen when it is named: a worker that has it may still come."""
        there = self.announced()
        rows = [engine for engine in ENGINES if name in (AUTO, engine.name)] or [by_name(name, "")]
        fit = sorted(rows, key=lambda engine: engine.lacks(machine) != "")
        chosen = next((engine for engine in fit if resource(engine) in there), None)
        if chosen is None and name == AUTO:
            raise HostFault(
                f"no worker of the lab at {self.address} announces an engine",
                expected=f"workers with one of {', '.join(NAMES)}",
                hint=f"start some with `harness worker {self.address}`",
            )
        return chosen or fit[0]

    def run(
        self, work: Work, runs: Sequence[CellRun], given: Callable[[int], None]
    ) -> Iterator[tuple[int, RunResult | HarnessError]]:
        """As `Pool.run`; nothing that happens on a worker takes this host down, so `given` is not told."""
        needs = {index: resource(self.choose(run.engine, run.scenario.machine)) for index, run in enumerate(runs)}
        pending: dict[Future[Delivery], int] = {}
        try:
            for index, run in enumerate(runs):
                pending[self._submit(work, run, needs[index])] = index
            waiting_since = {name: time.monotonic() for name in needs.values()}
            while pending:
                for future in self._done(pending):
                    index = pending.pop(future)
                    yield index, _outcome(future, runs[index])
                there = self.announced()
                waiting_since.update((name, time.monotonic()) for name in there)
                for future, index in list(pending.items()):
                    if time.monotonic() - waiting_since[needs[index]] > self.patience_s:
                        del pending[future]
                        future.cancel()
                        yield index, self._nobody(needs[index])
        finally:
            self._client.cancel(list(pending), force=True)

    def _submit(self, work: Work, run: CellRun, need: str) -> Future[Delivery]:
        key = f"{run.title} #{run.number} {time.time_ns()}"  # shown on the scheduler's dashboard
        return self._client.submit(deliver, work, Parcel.of(run), key=key, resources={need: 1}, pure=False)

    def _done(self, pending: dict[Future[Delivery], int]) -> list[Future[Delivery]]:
        with self._scheduler_there(), contextlib.suppress(TimeoutError):
            wait(list(pending), timeout=_LOOK_EVERY_S, return_when="FIRST_COMPLETED")
        with self._scheduler_there():
            # A job that nobody does any more is no job that failed.
            if self._client.status != "running" or any(future.cancelled() for future in pending):
                raise OSError("the connection is lost")
        return [future for future in pending if future.done()]

    @contextlib.contextmanager
    def _scheduler_there(self) -> Iterator[None]:
        """Raises HostFault when it is not: the night stays unfinished, and no cell is blamed."""
        try:
            yield
        except TimeoutError:
            raise
        except (OSError, CancelledError) as error:
            hint = "when there is one again, the same command goes on with the rest"
            raise HostFault(f"the scheduler at {self.address} is gone: {error}", hint=hint) from error

    def _nobody(self, need: str) -> NotExercised:
        return NotExercised(
            f"no worker of the lab announces {need}",
            found=f"for {self.patience_s:.0f} s; there is: {', '.join(sorted(self.announced())) or 'nothing'}",
            hint=f"`harness worker {self.address}` on a host that has it",
        )


def _outcome(future: Future[Delivery], run: CellRun) -> RunResult | HarnessError:
    """What came back, with the run's folder where those of this host are."""
    try:
        delivery = future.result()
    except KilledWorker as error:
        return HostFault(
            f"the workers that did {run.title} died, one after the other; the last was {error.last_worker.name}",
            found=f"{error.allowed_failures + 1} of them",
            hint="see the log of that worker's host",
        )
    except Exception as error:
        return HostFault(f"the lab failed: {error!r}", hint=_PICKLE_HINT)
    try:
        return delivery.unpack(run.runs)
    except HarnessError as error:
        return error


def serve(address: str, resources: Sequence[str], jobs: int) -> None:
    """Works for the scheduler at `address`, `jobs` runs at a time, until the scheduler or this process ends.

    Without Dask's nanny, whose workers may not have children; who starts this process starts it again if need be.
    Raises HostFault when no scheduler answers.
    """
    with tempfile.TemporaryDirectory(prefix="harness-worker.") as scratch:
        try:
            asyncio.run(_serve(address, {name: float(jobs) for name in resources}, jobs, scratch))
        except (OSError, ValueError, TimeoutError) as error:
            raise HostFault(f"no Dask scheduler answers at {address}: {error}") from error


async def _serve(address: str, resources: dict[str, float], jobs: int, scratch: str) -> None:
    worker = Worker(
        address,
        nthreads=jobs,
        resources=resources,
        local_directory=scratch,
        memory_limit=0,  # guests are processes of their own, which it would not count anyway
        death_timeout=_CONNECT_S,
        dashboard=False,
    )
    async with worker:
        progress.note(f"{worker.address} works for {address}, {jobs} at a time: {', '.join(resources)}")
        await worker.finished()
