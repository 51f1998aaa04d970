"""An exploration under way: what has been run, what is left, and the processes that run it.

Its folder is enough to go on after ^C: `plan.json` says what is explored, `points.json` where activities are held,
and `results.jsonl` has a line for each schedule that was run, written when its run ended.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from harness import progress
from harness.deadline import Deadline
from harness.errors import HarnessError, UsageError
from harness.explore.activities import independence
from harness.explore.plan import Plan, load_recordings, save_recordings
from harness.explore.points import Recording, recorded
from harness.explore.prune import Lessons, Pruned, representatives
from harness.explore.ran import Breach, Ran, ran, read_results
from harness.explore.scenario import Points, Script, recording_text
from harness.explore.schedules import Schedule, interleavings, number_of_words, schedule_name, switches
from harness.judge.record import load_record
from harness.kernels import BuildOptions, Kernel, resolve
from harness.kernels.model import KernelVersion
from harness.machine.engine import Engine
from harness.machine.toolchain import Qemu
from harness.mutants.named import named_kernel
from harness.run import Job, run_job
from harness.run.prelude import PRELUDE
from harness.scenario.load import load_scenario

RESULTS = "results.jsonl"
SCENARIOS = "schedules"

RUNS_VARIABLE = "HARNESS_RUNS"  # harness.paths.runs_dir()

_PREPARE_S = 1800.0
_MOST = 5000  # interleavings, which is an hour at 80 a minute
# A host that was slow for a moment makes holds miss their deadline: what proves nothing is tried once more.
_TRIES = 2


@dataclass
class Campaign:
    """An exploration in its folder."""

    folder: Path
    plan: Plan
    engine: Engine
    qemu: Qemu
    results: dict[Schedule, Ran] = field(default_factory=dict)

    @classmethod
    def in_folder(cls, folder: Path, plan: Plan, engine: Engine, qemu: Qemu) -> Campaign:
        """A new exploration, or one that goes on: with the results that are there."""
        made = cls(folder, plan, engine, qemu)
        (folder / SCENARIOS).mkdir(exist_ok=True)
        made.results = {result.schedule: result for result in read_results(folder / RESULTS)}
        return made

    # What is explored

    @cached_property
    def named_kernel(self) -> tuple[str, BuildOptions]:
        """The kernel's spec, and what is done to it."""
        spec, options = named_kernel(self.plan.kernel, BuildOptions(tuple(Path(path) for path in self.plan.patches)))
        return spec, options

    @cached_property
    def kernel(self) -> Kernel:
        spec, options = self.named_kernel
        with progress.task(f"kernel {self.plan.kernel}"):
            return resolve(spec, options, Deadline.after(_PREPARE_S, f"kernel {self.plan.kernel}"))

    @cached_property
    def recordings(self) -> dict[str, Recording]:
        """Where each activity can be held on this kernel: from the folder, or by running each once."""
        wanted = self.plan.wanted(str(self.kernel.version))
        if not self.is_recorded:
            save_recordings(self._points, {name: self._record(name, wanted) for name in self.plan.activities})
        return load_recordings(self._points, wanted)

    def record(self) -> None:
        """Finds out where the activities can be held, unless that is known."""
        assert self.recordings

    def _record(self, name: str, wanted: Points) -> Recording:
        activity = self.plan.cast[name]
        path = self.folder / f"{name}-alone.yaml"
        path.write_text(recording_text(activity, wanted[name], self.plan.kernel, self.engine.emulated))
        with progress.task(f"{name} alone"), runs_in(self.folder / "runs"):
            result = run_job(self._job(path))
        return recorded(activity, wanted[name], load_record(result.folder))

    @cached_property
    def script(self) -> Script:
        points = {name: recording.points for name, recording in self.recordings.items()}
        old = self.kernel.version < KernelVersion(6, 12)
        return Script(self.plan.cast, points, self.plan.kernel, old, self.engine.emulated, self.plan.command)

    @cached_property
    def schedules(self) -> list[Schedule]:
        """Every interleaving, the simplest first. Raises UsageError where there are too many."""
        segments = self.script.segments()
        if number_of_words(segments) > _MOST:
            raise UsageError(
                f"{number_of_words(segments)} interleavings are too many",
                expected=f"at most {_MOST}",
                found=", ".join(f"{name} has {count} points" for name, count in segments.items()),
                hint="give fewer points with --points",
            )
        found = interleavings(segments, self.plan.cast.enders)
        return sorted(found, key=lambda schedule: (switches(schedule, segments), len(schedule), schedule))

    @cached_property
    def stands_for(self) -> dict[Schedule, Schedule]:
        """Each interleaving with the one that is run for it."""
        if self.plan.every:
            return {schedule: schedule for schedule in self.schedules}
        return representatives(self.schedules, independence(self.script.points))

    @cached_property
    def known(self) -> frozenset[Breach]:
        """What breaks without what is explored here. Raises UsageError for a baseline that is none."""
        if not self.plan.baseline:
            return frozenset()
        other = Plan.load(Path(self.plan.baseline))
        if other.activities != self.plan.activities:
            raise UsageError(f"{self.plan.baseline} explores {' and '.join(other.activities)}")
        return frozenset(kind for result in read_results(Path(self.plan.baseline) / RESULTS) for kind in result.kinds)

    def news(self, result: Ran) -> list[Breach]:
        """What a run broke that is not known."""
        return [kind for kind in result.kinds if kind not in self.known]

    # What has been learnt

    def lessons(self) -> Lessons:
        """What the runs so far say of others."""
        learnt = Lessons(self.plan.activities)
        for result in self.results.values():
            if result.how == "blocked":
                learnt.blocked(result.begun, result.why)
            elif result.how == "ended":
                learnt.ended(result.begun, result.why)
        return learnt

    def pruned(self) -> dict[Schedule, Pruned]:
        """The schedules that were not run or came to nothing by themselves, and why."""
        lessons = self.lessons()
        found: dict[Schedule, Pruned] = {}
        for schedule, other in self.stands_for.items():
            if schedule != other:
                found[schedule] = Pruned("equivalent", schedule_name(other), other)
            elif (looked := lessons.look(schedule)) is not None:
                found[schedule] = looked
        return found

    def left(self) -> list[Schedule]:
        """What is still to be run, as far as is known."""
        lessons = self.lessons()
        found: dict[Schedule, None] = {}
        for schedule in dict.fromkeys(self.stands_for.values()):
            chosen: Schedule | None = schedule
            while chosen is not None and (looked := lessons.look(chosen)) is not None:
                chosen = looked.instead
            if chosen is not None and chosen not in self.results:
                found[chosen] = None
        return list(found)

    # Running

    def explore(self, jobs: int, first: bool = False) -> None:
        """Runs what is left, `jobs` at a time; with `first`, until something is broken that is not known.

        Whenever it ends, the folder has what was run.
        """
        tries: Counter[Schedule] = Counter()
        running: dict[Future[Ran], Schedule] = {}
        meter = _Meter(time.monotonic())
        waiting = self.left()
        prelude = self._prelude() if waiting else None
        with progress.counter(" and ".join(self.plan.activities)) as show, _pool(jobs, self.folder) as pool:
            while waiting or running:
                for schedule in waiting[: jobs - len(running)]:
                    tries[schedule] += 1
                    job = replace(self._job(self._written(schedule)), prelude=prelude)
                    running[pool.submit(_run, schedule, job)] = schedule
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result, schedule = future.result(), running.pop(future)
                    meter.runs += 1
                    if result.how not in ("unseen", "fault") or tries[schedule] == _TRIES:
                        self._keep(result)
                over = first and any(self.news(result) for result in self.results.values())
                waiting = [] if over else [one for one in self.left() if one not in running.values()]
                show(meter.text(self.results.values(), len(waiting) + len(running)))

    def _prelude(self) -> Path | None:
        """The machine with all at their first points, which every schedule goes on from; made anew each time.

        None where each has to come there by itself: without the emulated platform, and where a point counts hits, of
        which some may have been before.
        """
        points = [point for held in self.script.points.values() for point in held]
        if not self.engine.emulated or any(point.hit > 1 for point in points):
            return None
        folder, path = self.folder / "prelude", self.folder / "prelude.yaml"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        path.write_text(self.script.prelude_text())
        with progress.task("all to their first points"), runs_in(self.folder / "runs"):
            result = run_job(replace(self._job(path), keep=folder))
        if not (folder / PRELUDE).exists():
            progress.note(f"each schedule starts from the booted guest: {result.fault or result.folder}")
            return None
        return folder

    def again(self, schedule: Schedule) -> Ran:
        """Runs a schedule once more, by its scenario file."""
        with progress.task(f"once more: {schedule_name(schedule)}"), runs_in(self.folder / "runs"):
            return _run(schedule, self._job(self.scenario_path(schedule)))

    def scenario_path(self, schedule: Schedule) -> Path:
        """Where the scenario of a schedule that was run is."""
        return self.folder / SCENARIOS / f"{schedule_name(schedule)}.yaml"

    def title(self, schedule: Schedule) -> str:
        """Where each activity goes, in turn."""
        return self.script.title(schedule, self.lessons().ends_at)

    @property
    def is_recorded(self) -> bool:
        """Whether it is known where the activities can be held."""
        return self._points.exists()

    @property
    def _points(self) -> Path:
        return self.folder / "points.json"

    def _written(self, schedule: Schedule) -> Path:
        path = self.scenario_path(schedule)
        path.write_text(self.script.text(schedule, self.lessons().ends_at))
        return path

    def _job(self, path: Path) -> Job:
        spec, options = self.named_kernel
        return Job(load_scenario(path), spec, self.engine, self.qemu, options)

    def _keep(self, result: Ran) -> None:
        if result.how == "held":  # what is confirmed can be had again
            shutil.rmtree(result.folder, ignore_errors=True)
        self.results[result.schedule] = result
        with (self.folder / RESULTS).open("a") as file:
            file.write(json.dumps(result.to_json()) + "\n")


@dataclass
class _Meter:
    """How fast it goes, and how long it will take."""

    begin: float
    runs: int = 0

    def text(self, results: Collection[Ran], left: int) -> str:
        rate = self.runs / (time.monotonic() - self.begin)
        broken = sum(result.how == "broken" for result in results)
        return (
            f"{len(results)} of at most {len(results) + left} schedules, {broken} with something broken, "
            f"{60 * rate:.0f} a minute, {left / rate / 60:.1f} minutes left"
        )


def _run(schedule: Schedule, job: Job) -> Ran:
    """One schedule, in a worker."""
    begin = time.monotonic()
    try:
        return ran(schedule, run_job(job))
    except HarnessError as error:
        return Ran(schedule, "fault", round(time.monotonic() - begin, 3), "", 0, str(error))


@contextmanager
def _pool(jobs: int, folder: Path) -> Iterator[ProcessPoolExecutor]:
    """Workers; after ^C, or another end before the last run, none of them is left."""
    # Not forked: this process has had threads, of SSH and QMP.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker, initargs=(folder,))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker(folder: Path) -> None:
    progress.set_quiet(True)
    os.environ[RUNS_VARIABLE] = str(folder / "runs")


@contextmanager
def runs_in(folder: Path) -> Iterator[None]:
    """Run folders are made in `folder` meanwhile."""
    before = os.environ.get(RUNS_VARIABLE)
    os.environ[RUNS_VARIABLE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(RUNS_VARIABLE)
        if before is not None:
            os.environ[RUNS_VARIABLE] = before
