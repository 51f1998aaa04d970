"""A night: kernels are frozen and built, cells are run, and each is recorded as it ends.

There is no state but the database's: what is to be done next follows from what is recorded, whether this process
recorded it or one that was killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from filelock import FileLock, Timeout

from harness import paths, progress
from harness.cache import DiskFull
from harness.deadline import Deadline
from harness.errors import DoesNotBuild, Exit, HarnessError, HostFault, UsageError
from harness.fleet.cell import CellRun, require_space, run_cell
from harness.fleet.database import open_database
from harness.fleet.frozen import FrozenKernel, freeze
from harness.fleet.matrix import KernelEntry, Matrix
from harness.fleet.nights import Attempt, NightCell, NightKernel, Nights
from harness.fleet.plan import Plan, make_plan, scenario_digest
from harness.fleet.pool import Pool, Work
from harness.report.result import RunResult
from harness.scenario.model import Scenario

# A cell that takes the harness or the host down with it must not do so for ever.
_STARTS = 3


@contextlib.contextmanager
def nights_of(matrix: Matrix) -> Iterator[Nights]:
    """The nights in the matrix's database. Raises what `open_database` raises."""
    connection = open_database(matrix.database)
    try:
        yield Nights(connection, matrix.database, matrix.name)
    finally:
        connection.close()


@contextlib.contextmanager
def only_one(matrix: Matrix) -> Iterator[None]:
    """Keeps other nights out of the database. Raises UsageError that says who is at it."""
    lock = FileLock(f"{matrix.database}.lock")
    try:
        matrix.database.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(
            f"another night is being run into {matrix.database}",
            found=_holder(matrix),
            hint="wait for its end; `--summary` shows how far it is",
        ) from error
    except OSError as error:
        raise UsageError(f"cannot make {lock.lock_file}: {error.strerror}", hint="name another `results`") from error
    try:
        yield
    finally:
        lock.release()


def _holder(matrix: Matrix) -> str:
    """Who has the lock; it may be about to say so."""
    with nights_of(matrix) as nights:
        night = nights.last_taken_up()
    return f"process {night.pid} on {night.host} since {night.since}, night {night.id}" if night else ""


def begin(matrix: Matrix, nights: Nights, pool: Pool, *, new: bool = False) -> NightRun:
    """The unfinished night, if its plan is still the matrix's, else a new one; always a new one with `new`.

    Raises ScenarioError at the matrix's line for a kernel that there is not, HostFault when no engine works.
    """
    plan = make_plan(matrix, pool.choose)
    unfinished = nights.unfinished()
    if unfinished and not new and unfinished.digest == plan.digest:
        nights.take_up(unfinished.id)
        progress.note(f"night {unfinished.id} of {unfinished.began} goes on")
        return NightRun(matrix, nights, pool, unfinished.id)
    kernels = [_frozen(matrix, index, entry) for index, entry in enumerate(matrix.kernels)]
    if unfinished:
        why = "asked for" if new else f"{matrix.path} or a scenario has changed"
        progress.note(f"night {unfinished.id} of {unfinished.began} stays unfinished: {why}")
    digests = {name: scenario_digest(scenario) for name, scenario in matrix.loaded.items()}
    night = nights.begin(plan.digest, kernels, [(cell, digests[cell.scenario]) for cell in plan.cells])
    progress.note(_outline(night, plan))
    return NightRun(matrix, nights, pool, night)


def resume(matrix: Matrix, nights: Nights, pool: Pool) -> NightRun | None:
    """The unfinished night; None when there is none. Raises UsageError when it was another plan."""
    unfinished = nights.unfinished()
    if unfinished is None:
        return None
    if unfinished.digest != make_plan(matrix, pool.choose).digest:
        raise UsageError(
            f"night {unfinished.id} cannot be gone on with: {matrix.path} or a scenario has changed since it began",
            hint="leave out --resume to begin a new one",
        )
    return begin(matrix, nights, pool)


def _outline(night: int, plan: Plan) -> str:
    left_out = [
        f"{count} left out: {why}"
        for count, why in ((plan.unfit, "the engine lacks what the scenario needs"), (plan.excluded, "excluded"))
        if count
    ]
    return "; ".join([f"night {night}: {len(plan.cells)} cells", *left_out])


def _frozen(matrix: Matrix, index: int, entry: KernelEntry) -> NightKernel:
    """What has no answer now (a mirror that is away) is that kernel's trouble alone."""
    spec, options = matrix.sources[entry.label]
    try:
        with progress.task(f"what {entry.label} stands for"):
            return NightKernel(freeze(entry.label, spec, options))
    except UsageError as error:
        raise matrix.fault(("kernels", index), error) from error
    except DiskFull:
        raise
    except HostFault as error:
        return NightKernel(FrozenKernel(entry.label, spec, options), error.exit, str(error))


@dataclass
class NightRun:
    """A night in progress."""

    matrix: Matrix
    nights: Nights
    pool: Pool
    night: int
    in_flight: set[tuple[int, int]] = field(default_factory=set)  # cells and numbers of runs that are given out

    def run(self, work: Work = run_cell) -> None:
        """Does what is still to be done, and closes the night.

        Raises DiskFull, with the night unfinished, when there was no room for some of it.
        """
        self._build()
        try:
            while todo := self._todo():
                self._round(todo, work)
        except KeyboardInterrupt:
            self.nights.forgive(self.in_flight)
            raise
        self.nights.finish(self.night)

    @cached_property
    def _kernels(self) -> dict[str, NightKernel]:
        options = {name: options for name, (_, options) in self.matrix.sources.items()}
        return self.nights.kernels(self.night, options)

    def _build(self) -> None:
        """Every kernel once, before anything runs. One that does not build is the fault of its own cells."""
        for name, kernel in self._kernels.items():
            if kernel.frozen.key or kernel.exit is not None:
                continue
            require_space(paths.cache_dir(), self.matrix.free)
            built = _built(kernel, Deadline.after(self.matrix.build, f"kernel {name}"))
            self.nights.set_kernel(self.night, built)
            self._kernels[name] = built
            if built.fault:
                progress.note(f"{name}: {built.fault.partition(chr(10))[0]}")

    def _todo(self) -> list[CellRun]:
        """The runs that are missing. What can be told without a run is recorded on the way."""
        todo: list[CellRun] = []
        for one in self.nights.cells(self.night):
            kernel = self._kernels[one.cell.kernel]
            numbers = self._missing(one.attempts)
            if kernel.exit is not None:
                if not one.attempts:
                    self.nights.record(one.id, Attempt.failed(1, self._scenario(one), kernel))
                continue
            for number in numbers:
                if one.starts.get(number, 0) >= _STARTS:
                    self.nights.record(one.id, Attempt.failed(number, self._scenario(one), _deadly()))
                else:
                    todo.append(self._cell_run(one, kernel.frozen, number))
        return todo

    def _missing(self, attempts: Sequence[Attempt]) -> list[int]:
        """The numbers of the runs that a cell lacks: those of `repeat`, then one more until one is as declared.

        A scenario that does not fit the kernel does not fit it the next time either.
        """
        done = {attempt.number: attempt.exit for attempt in attempts}
        if Exit.USAGE in done.values():
            return []
        if missing := [number for number in range(1, self.matrix.repeat + 1) if number not in done]:
            return missing
        tried_enough = len(done) >= self.matrix.repeat + self.matrix.retry
        return [] if tried_enough or Exit.CONFIRMED in done.values() else [len(done) + 1]

    def _scenario(self, one: NightCell) -> Scenario:
        return self.matrix.loaded[one.cell.scenario]

    def _cell_run(self, one: NightCell, kernel: FrozenKernel, number: int) -> CellRun:
        return CellRun(
            cell=one.id,
            number=number,
            scenario=self._scenario(one),
            kernel=kernel,
            engine=one.cell.engine,
            deadline_s=self.matrix.deadline,
            build_s=self.matrix.build,
            free_mib=self.matrix.free,
            runs=(paths.runs_dir() / f"{self.matrix.name}-{self.night}").absolute(),
        )

    def _round(self, todo: Sequence[CellRun], work: Work) -> None:
        """Runs what was missing. Who finds no room says so at once: those that run then still end, and are kept."""
        full: DiskFull | None = None
        for index, outcome in self.pool.run(work, todo, lambda index: self._given(todo[index])):
            run = todo[index]
            try:
                self._record(run, outcome)
            except DiskFull as error:
                full = full or error
            self.in_flight.discard((run.cell, run.number))
        if full is not None:
            self.nights.forgive((run.cell, run.number) for run in todo)
            raise full

    def _given(self, run: CellRun) -> None:
        self.in_flight.add((run.cell, run.number))
        self.nights.start(run.cell, run.number)

    def _record(self, run: CellRun, outcome: RunResult | HarnessError) -> None:
        if isinstance(outcome, DiskFull):
            raise outcome
        if isinstance(outcome, HarnessError):
            attempt = Attempt.failed(run.number, run.scenario, outcome)
        else:
            attempt = Attempt.of(run.number, outcome)
        self.nights.record(run.cell, attempt)
        progress.done(f"{run.title}: {_verdicts(attempt)}", attempt.seconds)


def _built(kernel: NightKernel, deadline: Deadline) -> NightKernel:
    """The kernel with its key, or with why there is none: one that does not build is not the harness's fault."""
    frozen = kernel.frozen
    try:
        with progress.task(f"kernel {frozen.name}"):
            made = frozen.resolve(deadline)
    except DoesNotBuild as error:
        return replace(kernel, exit=Exit.NOT_EXERCISED, fault=str(error))
    except DiskFull:
        raise
    except HarnessError as error:
        return replace(kernel, exit=error.exit, fault=str(error))
    return replace(kernel, frozen=replace(frozen, key=made.key, release=made.release))


def _deadly() -> HostFault:
    return HostFault(
        f"the harness or the host died {_STARTS} times while this was run; it is not tried again",
        hint="run the scenario by itself, with `harness run`, and see the host's own log",
    )


def _verdicts(attempt: Attempt) -> str:
    return ", ".join(dict.fromkeys(claim.verdict.value for claim in attempt.claims))
