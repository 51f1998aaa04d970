"""One run: a scenario on a kernel and an engine, from the first boot to the judged folder."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import progress
from harness.cache import disk_full_is_a_host_fault
from harness.deadline import Deadline
from harness.errors import Exit, HarnessError, HostFault, NotExercised, UsageError
from harness.folder import RunFolder
from harness.guest.boot import INITRAMFS, GuestPlan, fresh, restored
from harness.guest.outcome import STEPS_LOG
from harness.guest.session import Session
from harness.images.keys import copy_keys
from harness.judge.judge import judge
from harness.judge.record import RUN_FORMAT, load_record
from harness.kernels.model import BuildOptions, Kernel
from harness.machine.engine import ENGINES, Engine
from harness.machine.host import this_host
from harness.machine.snapshot import CONSOLE, SnapshotBroken
from harness.machine.toolchain import Qemu
from harness.observe import preemption
from harness.observe.preemption import parse_preemption
from harness.platform.link import EVENTS as PLATFORM_LOG
from harness.probes.addresses import SymbolTable
from harness.probes.event import EVENTS_LOG, Event
from harness.probes.functions import FunctionProbes, mark_void
from harness.probes.gdb_holds import HOLDS_LOG
from harness.probes.kallsyms import symbol_table
from harness.probes.leftover import LeftoverReader
from harness.probes.platform_log import merge, parse_platform, untold_losses
from harness.probes.points import ArmedPoint
from harness.probes.tracefs import KernelProbe, parse_trace, refused_at_load
from harness.probes.tracer import BEFORE, STREAMS, Tracer
from harness.report.html import write_report
from harness.report.result import RunResult
from harness.run.debugger import gdb_command
from harness.run.door import Door, door_where_possible, open_door
from harness.run.events import EventLog
from harness.run.guest_plan import guest_plan, kernel_for, lacking
from harness.run.holders import Holders, HoldsChoice
from harness.run.holds import Holds, MissedHold
from harness.run.inspection import PauseOn, inspect, reason, set_apart
from harness.run.narrator import narrated
from harness.run.prelude import Prelude, Started
from harness.run.requirements import (
    armed_points,
    kernel_probes,
    needed_config,
    probe_error,
)
from harness.run.steps import Steps
from harness.run.warm import cold_reason, discard, warm_guest
from harness.scenario.load import to_yaml
from harness.scenario.model import Scenario
from harness.scenario.platform_events import PLATFORM_EVENTS
from harness.scenario.steps import Panic, Step
from harness.version import harness_version

_KVM_MODULES = tuple(dict.fromkeys(engine.extension.module for engine in ENGINES))

_ASK_S = 10.0
_SAVE_S = 60.0  # 1 s on an idle host
_PREPARE_S = 1800.0  # a kernel from source takes ten minutes on two cores


@dataclass(frozen=True)
class Job:
    """What is to be run. `label` names the kernel in tables: `name`, else its spec and what was done to it.

    `cold` boots even where the run could go on from a snapshot. `keep` is an existing folder in which the run keeps
    itself as a prelude after its last step, `prelude` one in which another run has, whose steps were the first of
    this one's. What it comes to may be in `pause_on`: its guest then stays until somebody has looked at it.
    """

    scenario: Scenario
    kernel: str
    engine: Engine
    qemu: Qemu
    options: BuildOptions = field(default_factory=BuildOptions)
    holds: HoldsChoice = "auto"  # what holds tasks at points
    cold: bool = False
    keep: Path | None = None
    prelude: Path | None = None
    name: str = ""
    pause_on: frozenset[PauseOn] = frozenset()

    @property
    def label(self) -> str:
        return self.name or " +".join([self.kernel, *(patch.stem for patch in self.options.patches)])


def run_job(job: Job) -> RunResult:
    """Runs and judges. What goes wrong during the run is part of the result; wrong input is raised, before any boot.

    Raises UsageError for a kernel or probe that does not exist, HostFault when the kernel or the image cannot be
    made, KeyboardInterrupt (with the folder complete and nothing left running).
    """
    with progress.task(f"kernel {job.label}"):
        deadline = Deadline.after(_PREPARE_S, f"kernel {job.label}")
        kernel = kernel_for(job.scenario, job.kernel, job.options, job.engine, deadline)
    kernel.require_config(needed_config(job.scenario, kernel))
    probes = mark_void(kernel, kernel_probes(job.scenario, kernel, job.engine))
    points = armed_points(job.scenario, kernel, job.engine)
    symbols = symbol_table(kernel, job.qemu)
    folder = RunFolder.create(job.scenario.name, job.label, job.engine.name)
    begin = time.monotonic()
    console = folder.path / CONSOLE
    end = contextlib.ExitStack  # what is afterwards comes when who was staying has gone
    with disk_full_is_a_host_fault(folder.path), end() as afterwards, end() as staying:
        run = Run(job, kernel, probes, points, folder, symbols, staying)
        run.execute()
        said = console.stat().st_size if console.exists() else 0
        record = load_record(folder.path)
        result = RunResult.of(record, judge(record), time.monotonic() - begin)
        folder.write_json("verdict.json", result.to_json())
        if job.prelude is None:  # of an exploration's hundreds of runs, nobody reads each
            write_report(record, result.judgement, result.seconds)
        if (why := reason(job.pause_on, result)) and run.door is not None:
            if console.exists():  # QEMU may not have begun
                afterwards.callback(set_apart, console, said)
            inspect(run.door, why)
    return result


@dataclass
class Run:
    """A run in progress."""

    job: Job
    kernel: Kernel
    probes: list[KernelProbe]
    points: dict[str, ArmedPoint]
    folder: RunFolder
    symbols: SymbolTable  # what the emulated platform traces functions by, and the ring buffer is found by
    staying: contextlib.ExitStack  # of the guest of a run that may be looked at afterwards
    door: Door | None = None
    _functions: FunctionProbes | None = None
    _holds: Holds | None = None
    _meta: dict[str, Any] = field(default_factory=dict)

    @property
    def scenario(self) -> Scenario:
        return self.job.scenario

    def execute(self) -> None:
        """Boots, does the steps, collects. Ends with a folder that can be judged, whatever happens."""
        version = str(self.kernel.version)
        self._meta = {
            "format": RUN_FORMAT,
            "scenario": self.scenario.name,
            "kernel": {
                "spec": self.job.kernel,
                "label": self.job.label,
                "release": self.kernel.release,
                "version": version,
                "key": self.kernel.key,
                "provenance": dict(self.kernel.provenance),
            },
            "engine": self.job.engine.name,
            "vendor": self.job.engine.extension.name,
            "qemu": self.job.qemu.version,
            "harness": harness_version(),
            "host": this_host(_KVM_MODULES).to_json(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "online": [],
            "preemption": "",
            "holds": [],
            "armed": [],
            "by_platform": [],
            "lost": {},
            "lost_by_platform": {},
            "complete": [],
            "idle_faults": [],
            "expected_panic": any(isinstance(step, Panic) for step in self.scenario.steps_on(version)),
            # What stands here when nobody lives to write how it really ended.
            "fault": {"type": "Interrupted", "exit": 3, "text": "the harness was killed during this run"},
        }
        self.folder.write_text("scenario.yaml", to_yaml(self.scenario))
        self._save()
        try:
            if what := lacking(self.scenario, self.kernel, self.job.engine):
                raise NotExercised(what)
            self._run_machine()
            self._meta["fault"] = None
        except BaseException as error:
            self._meta["fault"] = _fault(error)
            if isinstance(error, MissedHold):
                self._meta["missed"] = error.to_json()
            if not isinstance(error, HarnessError) or isinstance(error, UsageError):
                raise
        finally:
            try:
                self._collect()
            finally:
                self._save()

    def _save(self) -> None:
        self.folder.write_json("run.json", self._meta)

    def _run_machine(self) -> None:
        deadline = Deadline.after(_PREPARE_S, "the guest image")
        steps = self.scenario.steps_on(str(self.kernel.version), self.job.engine.extension.name)
        plan = guest_plan(self.scenario, self.kernel, self.job.engine, self.job.qemu)
        if self.job.prelude is not None:
            self._go_on(plan, self.job.prelude, steps, deadline)
            return
        why = "asked for" if self.job.cold else self._cold_reason()
        snapshot = None if why else warm_guest(plan, self.symbols)
        if snapshot is not None:
            try:
                self._run_on(restored(plan, snapshot, self.folder.path, deadline), steps, "")
                return
            except SnapshotBroken as broken:
                progress.note(f"{broken.what}; the guest boots")
                discard(snapshot, self.folder.path)
        self._run_on(fresh(plan, self.folder.path, deadline), steps, why or "there is no snapshot that is whole")

    def _cold_reason(self) -> str:
        modules = {probe.module for probe in self.probes} | {point.module for point in self.points.values()}
        return cold_reason(self.scenario, self.kernel, self.job.engine, modules - {""})

    def _go_on(self, plan: GuestPlan, folder: Path, steps: list[Step], deadline: Deadline) -> None:
        """Does what comes after the prelude in `folder`."""
        prelude = Prelude.read(folder)
        self._meta |= {
            "start": {"how": "prelude", "steps": prelude.steps},
            "online": list(prelude.online),
            "armed": list(prelude.armed),
            "preemption": prelude.preemption,
        }
        self.folder.write_text(STEPS_LOG, prelude.outcomes)
        self.folder.write_text(BEFORE, prelude.trace)
        with self._live(restored(plan, folder, self.folder.path, deadline)) as doing:
            assert self._functions is not None  # a prelude needs the emulated platform
            self._functions.load_modules(prelude.modules)
            doing.go_on(prelude, steps[prelude.steps :])

    def _keep(self, doing: Steps, folder: Path) -> None:
        """Keeps the run as a prelude, and goes on."""
        session = doing.session
        assert self._functions is not None and self._holds is not None
        session.machine.save(folder, Deadline.after(_SAVE_S, "a snapshot of the run"))
        copy_keys(self.folder.path, folder)
        (folder / INITRAMFS).hardlink_to((session.snapshot or self.folder.path) / INITRAMFS)
        Prelude(
            steps=len(self.scenario.steps_on(str(self.kernel.version), self.job.engine.extension.name)),
            online=session.online,
            armed=tuple(self._meta["armed"]),
            preemption=self._holds.preemption,
            held=tuple(self._holds.active),
            actors=tuple(
                Started(name, actor.pid, actor.boot, actor.online, actor.since)
                for name, actor in doing.actors.items()
            ),
            modules=self._functions.modules,
            outcomes=(self.folder.path / STEPS_LOG).read_text(),
            trace="\n".join(line for name in STREAMS for line in self._lines(name)),
        ).write(folder)

    def _run_on(self, guest: AbstractContextManager[Session], steps: list[Step], why_cold: str) -> None:
        """Does the steps on a machine that is not started yet. `why_cold` says why it boots, "" when it need not."""
        self._meta["start"] = {"how": "boot", "why": why_cold} if why_cold else {"how": "snapshot"}
        keep = self.job.keep
        with self._live(guest) as doing:
            doing.run(steps, (lambda: self._keep(doing, keep)) if keep is not None else lambda: None)

    @contextlib.contextmanager
    def _live(self, guest: AbstractContextManager[Session]) -> Iterator[Steps]:
        """What does the steps, on a machine that is not started yet; takes over what it knows in the end."""
        with contextlib.ExitStack() as ending:
            session = ending.enter_context(guest)
            debugger = functools.partial(gdb_command, self.kernel, self.symbols)
            opened = open_door if self.job.pause_on else door_where_possible
            self.door = ending.enter_context(opened(self.folder.path.name, session, debugger))
            tracer = self._tracer(session)
            self._holds = self._make_holds(session)
            log = EventLog(self.folder.path, self._functions)
            try:
                with narrated(log, session.machine):
                    yield Steps(self.scenario, session, tracer, self.folder, self._booted, self._holds, log)
                self._stay(ending)
            except SnapshotBroken:
                raise
            except HarnessError:
                self._stay(ending)
                raise
            finally:
                platform = session.machine.platform
                self._meta |= {
                    "lost": tracer.lost,
                    "complete": sorted(tracer.complete),
                    "idle_faults": platform.idle_faults if platform else [],
                    "holds": self._holds.to_json(session.machine),
                    "waiting": sorted(self._holds.waiting),
                }

    def _stay(self, ending: contextlib.ExitStack) -> None:
        """Leaves the end of the guest to whoever judges the run, where it may be kept."""
        if self.job.pause_on:
            self.staying.enter_context(ending.pop_all())

    def _make_holds(self, session: Session) -> Holds:
        holders = Holders(session.machine, self.kernel, self.symbols, self._functions, self.job.holds)
        actors = {name: self.scenario.points[name].actor for name in self.points}
        return Holds(self.points, {name: actor for name, actor in actors.items() if actor is not None}, holders)

    def _tracer(self, session: Session) -> Tracer:
        """The tracer, with as much of its work as possible given to the platform, where there is one."""
        platform = session.machine.platform
        leftover = functools.cache(self._leftover_reader)
        if platform is None:
            return Tracer(self.probes, self.folder.path, leftover=leftover)
        self._functions = FunctionProbes.on(platform, self.kernel, self.symbols, self.probes)
        self._require_traceable(self._functions.refused)
        return Tracer(self._functions.rest, self.folder.path, self._functions, leftover)

    def _leftover_reader(self) -> LeftoverReader | None:
        """None for a kernel that does not tell where its ring buffer is: its boots that end in a reset stay open."""
        try:
            return LeftoverReader.of(self.kernel, self.symbols)
        except HostFault as fault:
            progress.note(f"what happens after the guest's last words stays unseen: {fault}")
            return None

    def _require_traceable(self, refused: dict[str, str]) -> None:
        """Raises ScenarioError for a probe that the kernel cannot have.

        A patch may have removed or inlined a function: then its expectations are unseen, which is no mistake of the
        scenario's.
        """
        for probe in self.scenario.probes_on(str(self.kernel.version), self.job.engine.extension.name):
            if probe.name in refused and not self.job.options.patches:
                what = f"kernel {self.kernel.release} cannot trace {probe.name}: {refused[probe.name]}"
                raise probe_error(self.scenario, probe, what)

    def _booted(self, session: Session, refused: dict[str, str]) -> None:
        """Notes what the first boot found; an unknown function is the scenario's fault."""
        if session.machine.boot.number > 1:
            # What one boot could not trace proves nothing by its absence.
            self._meta["armed"] = [name for name in self._meta["armed"] if name not in refused]
            return
        self._require_traceable(refused)
        self._note_preemption(session)
        self._meta |= {
            "online": list(session.online),
            "armed": [probe.name for probe in self.probes if probe.name not in refused],
        }
        self._save()

    def _note_preemption(self, session: Session) -> None:
        if self._holds is not None and self.points:
            told = session.run(preemption.SCRIPT, Deadline.after(_ASK_S, "the preemption model")).stdout
            self._meta["preemption"] = self._holds.preemption = parse_preemption(told)

    def _collect(self) -> None:
        """Turns what both sources told into events.jsonl, and takes back what was armed in vain."""
        console = self.folder.path / CONSOLE
        failed = refused_at_load(console.read_text(errors="replace")) if console.exists() else set()
        streams = [self.folder.path / name for name in STREAMS if (self.folder.path / name).exists()]
        trace = parse_trace(line for stream in streams for line in stream.read_text(errors="replace").splitlines())
        for boot, count in trace.lost.items():
            self._meta["lost"][boot] = self._meta["lost"].get(boot, 0) + count
        others: list[Event] = []
        if self._functions is not None:
            failed |= self._functions.refused.keys()
            others += self._of_platform(self._functions)
        others = self._with_gdbstub(others)
        others += untold_losses(others, {hold["point"] for hold in self._meta["holds"] if hold["end"] == "lost"})
        events = merge(trace.events, others) if others else trace.events
        self._meta["by_platform"] += self.points
        self._meta["armed"] = [name for name in self._meta["armed"] if name not in failed]
        with (self.folder.path / EVENTS_LOG).open("w") as file:
            file.writelines(json.dumps(event.to_json()) + "\n" for event in events)

    def _of_platform(self, functions: FunctionProbes) -> list[Event]:
        platform = parse_platform(self._lines(PLATFORM_LOG), functions.fetches, functions.void)
        self._meta |= {"by_platform": [*functions.armed, *PLATFORM_EVENTS], "lost_by_platform": platform.lost}
        return platform.events

    def _with_gdbstub(self, platform: list[Event]) -> list[Event]:
        """The platform's events with those of the gdbstub among them: each says how much of the platform's file was
        written before it."""
        path = self.folder.path / PLATFORM_LOG
        written = path.read_bytes() if path.exists() else b""
        whole = list(platform)
        for line in reversed(self._lines(HOLDS_LOG)):
            before = parse_platform(written[: json.loads(line)["after"]].decode().splitlines(), {}).events
            whole[len(before) : len(before)] = [
                dataclasses.replace(event, source="gdbstub") for event in parse_platform([line], {}).events
            ]
        return whole

    def _lines(self, name: str) -> list[str]:
        path = self.folder.path / name
        return path.read_text().splitlines() if path.exists() else []


def _fault(error: BaseException) -> dict[str, Any]:
    """What ended a run early, as run.json has it. What is no HarnessError is the harness's own failure."""
    if isinstance(error, HarnessError):
        return {"type": type(error).__name__, "exit": int(error.exit), "text": str(error)}
    text = "interrupted" if isinstance(error, KeyboardInterrupt) else f"the harness failed: {error!r}"
    return {"type": type(error).__name__, "exit": int(Exit.HARNESS_FAULT), "text": text}
