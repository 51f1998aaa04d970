"""An exploration under way: what has been run, what is left, and the processes that run it.

Its folder is enough to go on after ^C: `plan.json` says what is explored, `points.json` where activities are held,
and `results.jsonl` has a line for each schedule that was run, written when its run ended.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import overload

from harness import progress
from harness.deadline import Deadline
from harness.errors import HarnessError, HostFault, UsageError
from harness.explore.activities import independence
from harness.explore.plan import Plan, load_recordings, save_recordings
from harness.explore.points import Recording, recorded
from harness.explore.prune import Lessons, Pruned, representatives
from harness.explore.ran import Breach, Ran, ran, read_results
from harness.explore.scenario import Points, Script, recording_text
from harness.explore.schedules import Schedule, interleavings, number_of_words, schedule_name, switches
from harness.judge.record import load_record
from harness.kernels import BuildOptions, Kernel, resolve, with_patches
from harness.kernels.model import KernelVersion
from harness.machine.engine import Engine
from harness.machine.toolchain import Qemu
from harness.mutants.named import named_kernel
from harness.paths import runs_in
from harness.run import Job, run_job
from harness.run.prelude import PRELUDE
from harness.scenario.load import load_scenario
from harness.workers import in_parallel

RESULTS = "results.jsonl"
SCENARIOS = "schedules"
_PRELUDE = "prelude"

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
        spec, options = named_kernel(self.plan.kernel)
        if patches := tuple(Path(path) for path in self.plan.patches):
            options = with_patches(spec, (*options.patches, *patches))
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
        """Runs an activity alone; once more when the harness fails."""
        activity = self.plan.cast[name]
        path = self.folder / f"{name}-alone.yaml"
        path.write_text(recording_text(activity, wanted[name], self.plan.kernel, self.engine.emulated))
        for last in range(1, _TRIES + 1):
            with progress.task(f"{name} alone"), runs_in(self.folder / "runs"):
                result = run_job(self._job(path))
            try:
                return recorded(activity, wanted[name], load_record(result.folder))
            except HostFault as fault:
                if last == _TRIES:
                    raise
                progress.note(f"once more: {fault.found.splitlines()[0]}")
        raise AssertionError("the last try returns or raises")

    @cached_property
    def script(self) -> Script:
        points = {name: recording.points for name, recording in self.recordings.items()}
        old = self.kernel.version < KernelVersion(6, 12)
        plan = self.plan
        return Script(plan.cast, points, plan.kernel, old, self.engine.emulated, plan.command, frozenset(plan.given))

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

    @cached_property
    def lessons(self) -> Lessons:
        """What the runs so far say of others; each result is added when it is kept."""
        learnt = Lessons(self.script.segments())
        for result in self.results.values():
            _teach(learnt, result)
        return learnt

    def pruned(self) -> dict[Schedule, Pruned]:
        """The schedules that were not run or came to nothing by themselves, and why."""
        lessons = self.lessons
        found: dict[Schedule, Pruned] = {}
        for schedule, other in self.stands_for.items():
            if schedule != other:
                found[schedule] = Pruned("equivalent", schedule_name(other), other)
            elif (looked := lessons.look(schedule)) is not None:
                found[schedule] = looked
        return found

    def left(self) -> list[Schedule]:
        """What is still to be run, as far as is known."""
        lessons = self.lessons
        found: dict[Schedule, None] = {}
        for schedule in dict.fromkeys(self.stands_for.values()):
            chosen: Schedule | None = schedule
            while chosen is not None and (looked := lessons.look(chosen)) is not None:
                chosen = looked.instead
            if chosen is not None and chosen not in self.results:
                found[chosen] = None
        return list(found)

    # Running

    def explore(self, jobs: int, first: bool = False, limit: int | None = None) -> None:
        """Runs what is left, `jobs` at a time; with `first`, until something is broken that is not known; at most
        `limit` schedules.

        Whenever it ends, the folder has what was run.
        """
        if not self.left():
            return
        queue = _Queue(self, self._prelude(), first, limit)
        try:
            self._work(queue, jobs)
        finally:
            shutil.rmtree(self.folder / _PRELUDE, ignore_errors=True)  # hundreds of megabytes

    def _work(self, queue: _Queue, jobs: int) -> None:
        meter = _Meter(time.monotonic())
        with progress.counter(" and ".join(self.plan.activities)) as show, runs_in(self.folder / "runs"):
            while queue:  # workers that found nothing to do are gone when a result brings something new
                for index, outcome in in_parallel(_run, queue, jobs, _title):
                    meter.runs += 1
                    self._take(queue, queue.given[index].schedule, outcome)
                    show(meter.text(self.results.values(), len(queue.waiting) + len(queue.running)))

    def _take(self, queue: _Queue, schedule: Schedule, outcome: Ran | HarnessError) -> None:
        """Keeps a result, unless it proves nothing and may be tried once more."""
        result = outcome if isinstance(outcome, Ran) else Ran(schedule, "fault", 0.0, "", 0, str(outcome))
        queue.running.remove(schedule)
        if result.how not in ("unseen", "fault") or queue.tries[schedule] == _TRIES:
            self._keep(result)

    def _prelude(self) -> Path | None:
        """The machine with all at their first points, which every schedule goes on from; made anew each time.

        None where each has to come there by itself: without the emulated platform; where a point counts hits, of
        which some may have been before; and before a kexec, of which the platform is told by who starts it.
        """
        points = [point for held in self.script.points.values() for point in held]
        if not self.engine.emulated or self.plan.cast.jumps or any(point.hit > 1 for point in points):
            return None
        folder, path = self.folder / _PRELUDE, self.folder / f"{_PRELUDE}.yaml"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        path.write_text(self.script.prelude_text())
        with progress.task("all to their first points"), runs_in(self.folder / "runs"):
            result = run_job(replace(self._job(path), keep=folder))
        if not (folder / PRELUDE).exists():
            progress.note(f"each schedule starts from the booted guest: {result.fault or result.folder}")
            return None
        shutil.rmtree(result.folder, ignore_errors=True)  # how it ended, with all let go, is no news
        return folder

    def again(self, schedule: Schedule) -> Ran:
        """Runs a schedule once more, by its scenario file."""
        with progress.task(f"once more: {schedule_name(schedule)}"), runs_in(self.folder / "runs"):
            return _run(self.task(schedule, None))

    def scenario_path(self, schedule: Schedule) -> Path:
        """Where the scenario of a schedule that was run is."""
        return self.folder / SCENARIOS / f"{schedule_name(schedule)}.yaml"

    def title(self, schedule: Schedule) -> str:
        """Where each activity goes, in turn."""
        return self.script.title(schedule, self.lessons.positions)

    @property
    def is_recorded(self) -> bool:
        """Whether it is known where the activities can be held."""
        return self._points.exists()

    @property
    def _points(self) -> Path:
        return self.folder / "points.json"

    def task(self, schedule: Schedule, prelude: Path | None) -> _Task:
        """What a worker needs for a schedule; its scenario is written."""
        path = self.scenario_path(schedule)
        places = self.lessons.positions
        path.write_text(self.script.text(schedule, places))
        job = replace(self._job(path), prelude=prelude)
        return _Task(schedule, job, self.script.aims(schedule, places), self.script.segments())

    def _job(self, path: Path) -> Job:
        spec, options = self.named_kernel
        return Job(load_scenario(path), spec, self.engine, self.qemu, options)

    def _keep(self, result: Ran) -> None:
        if result.how == "held":  # what is confirmed can be had again
            shutil.rmtree(result.folder, ignore_errors=True)
        _teach(self.lessons, result)
        self.results[result.schedule] = result
        with (self.folder / RESULTS).open("a") as file:
            file.write(json.dumps(result.to_json()) + "\n")


def _teach(lessons: Lessons, result: Ran) -> None:
    if result.how == "blocked":
        lessons.blocked(result.begun, result.why)
    elif result.how == "strayed":
        lessons.went(result.begun, result.position, result.why)


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


@dataclass(frozen=True)
class _Task:
    """A schedule to be run, by a worker."""

    schedule: Schedule
    job: Job
    aims: tuple[str, ...]
    segments: Mapping[str, int]


class _Queue(Sequence[_Task]):
    """Tasks that come to be when they are asked for, so that each takes into account what was learnt until then."""

    def __init__(self, campaign: Campaign, prelude: Path | None, first: bool, limit: int | None = None) -> None:
        self.campaign = campaign
        self.prelude = prelude
        self.first = first
        self.limit = limit
        self.given: list[_Task] = []
        self.running: set[Schedule] = set()
        self.tries: Counter[Schedule] = Counter()

    @property
    def waiting(self) -> list[Schedule]:
        """What is left and not running, unless it is time to stop."""
        if self.first and any(self.campaign.news(result) for result in self.campaign.results.values()):
            return []
        if self.limit is not None and len(self.given) >= self.limit:
            return []
        return [schedule for schedule in self.campaign.left() if schedule not in self.running]

    def __len__(self) -> int:
        return len(self.given) + bool(self.waiting)

    def __bool__(self) -> bool:
        return bool(self.waiting)

    @overload
    def __getitem__(self, index: int) -> _Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Task]: ...
    def __getitem__(self, index: int | slice) -> _Task | list[_Task]:
        if index == len(self.given) and (waiting := self.waiting):
            self.given.append(self.campaign.task(waiting[0], self.prelude))
            self.running.add(waiting[0])
            self.tries[waiting[0]] += 1
        return self.given[index]


def _title(task: _Task) -> str:
    return schedule_name(task.schedule)


def _run(task: _Task) -> Ran:
    """One schedule, in a worker."""
    return ran(task.schedule, run_job(task.job), task.aims, task.segments)
