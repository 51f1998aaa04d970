"""One run: a scenario on a kernel and an engine, from the first boot to the judged folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness import progress
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HarnessError, NotExercised, UsageError
from harness.folder import RunFolder
from harness.guest.actions import EXTRA_MODULES, Result, command, perform, result_of
from harness.guest.boot import prepared
from harness.guest.hang import why_hung
from harness.guest.outcome import UNFINISHED, Outcome
from harness.guest.session import Session, pinned
from harness.judge.judge import judge
from harness.judge.record import RUN_FORMAT, load_record
from harness.kernels.model import BuildOptions, Kernel
from harness.kernels.resolve import resolve
from harness.machine.argv import MachineSpec
from harness.machine.engine import Engine
from harness.machine.state import State
from harness.machine.toolchain import Qemu
from harness.observe.sampler import take_sample
from harness.probes.symbols import module_of
from harness.probes.tracefs import KernelProbe, parse_trace
from harness.probes.tracer import STREAMS, Tracer
from harness.report.result import RunResult
from harness.scenario.functions import real_name
from harness.scenario.load import to_yaml
from harness.scenario.model import Probe, Scenario
from harness.scenario.steps import (
    Boot,
    Halt,
    Kexec,
    Offline,
    Online,
    Panic,
    Plug,
    Poweroff,
    Reboot,
    Sample,
    Start,
    Step,
    Suspend,
    Until,
    Wrmsr,
)
from harness.scenario.yaml_file import read_yaml

_PREPARE_S = 1800.0  # a kernel from source takes ten minutes on two cores
_BOOT_S = 120.0  # 5-8 s under TCG on an idle host
_FINISH_S = 20.0
_KVM_MODULES = ("kvm", "kvm_amd", "kvm_intel")

# The crash kernel and its initramfs must fit into what is set aside.
_CRASH_MEMORY = "crashkernel=160M"


@dataclass(frozen=True)
class Job:
    """What is to be run. `label` names the kernel in tables: its spec and what was done to it."""

    scenario: Scenario
    kernel: str
    engine: Engine
    qemu: Qemu
    options: BuildOptions = field(default_factory=BuildOptions)

    @property
    def label(self) -> str:
        return " +".join([self.kernel, *(patch.stem for patch in self.options.patches)])


def run_job(job: Job) -> RunResult:
    """Runs and judges. What goes wrong during the run is part of the result; wrong input is raised, before any boot.

    Raises UsageError for a kernel or probe that does not exist, HostFault when the kernel or the image cannot be
    made, KeyboardInterrupt (with the folder complete and nothing left running).
    """
    with progress.task(f"kernel {job.label}"):
        kernel = resolve(job.kernel, job.options, Deadline.after(_PREPARE_S, f"kernel {job.label}"))
    kernel.require_config(_needed_config(job.scenario, kernel))
    probes = kernel_probes(job.scenario, kernel, job.engine)
    folder = RunFolder.create(job.scenario.name, job.label, job.engine.name)
    begin = time.monotonic()
    Run(job, kernel, probes, folder).execute()
    record = load_record(folder.path)
    result = RunResult.of(record, judge(record), time.monotonic() - begin)
    folder.write_json("verdict.json", result.to_json())
    return result


_CONFIG = {
    "CONFIG_KPROBE_EVENTS": "the tracer's probes",
    "CONFIG_VIRTIO_PCI": "the devices of the guest",
    "CONFIG_VIRTIO_CONSOLE": "the tracer's stream",
    "CONFIG_VIRTIO_NET": "SSH",
    "CONFIG_SERIAL_8250_CONSOLE": "the console",
    "CONFIG_BLK_DEV_INITRD": "the guest image",
    "CONFIG_DEVTMPFS": "/dev/kvm",
}

_STEP_CONFIG: dict[type[Step], dict[str, str]] = {
    Offline: {"CONFIG_HOTPLUG_CPU": "offline"},
    Online: {"CONFIG_HOTPLUG_CPU": "online"},
    Plug: {"CONFIG_ACPI_HOTPLUG_CPU": "plug"},
    Suspend: {"CONFIG_SUSPEND": "suspend"},
    Kexec: {"CONFIG_KEXEC_FILE": "kexec"},
    Wrmsr: {"CONFIG_X86_MSR": "wrmsr"},
}


def _needed_config(scenario: Scenario, kernel: Kernel) -> dict[str, str]:
    """The options that the harness needs for this scenario, each with what it is for."""
    needed = dict(_CONFIG)
    for step in scenario.steps_on(str(kernel.version)):
        needed |= _STEP_CONFIG.get(type(step), {})
    return needed


def kernel_probes(scenario: Scenario, kernel: Kernel, engine: Engine) -> list[KernelProbe]:
    """The scenario's probes with the names that this kernel has for them.

    Raises ScenarioError for a function that the table of names says this kernel does not have.
    """
    version, vendor = str(kernel.version), engine.extension.name
    chosen = scenario.probes_on(version, vendor)
    symbols = {probe.name: real_name(probe.function, version, vendor) for probe in chosen if probe.function}
    homes = module_of((symbol for symbol in symbols.values() if symbol), kernel, _KVM_MODULES)
    probes = []
    for probe in chosen:
        symbol = symbols.get(probe.name, "")
        if symbol is None:
            raise _probe_error(scenario, probe, f"kernel {kernel.release} has no {probe.function}")
        probes.append(
            KernelProbe(probe.name, symbol, homes.get(symbol, ""), probe.tracepoint, tuple(probe.fetch.items()))
        )
    return probes


def _probe_error(scenario: Scenario, probe: Probe, what: str) -> UsageError:
    document = read_yaml(scenario.path)
    return document.error(
        ("trace", scenario.trace.index(probe)), what, "limit the entry with `kernels:` or `vendor:`"
    )


@dataclass
class Run:
    """A run in progress."""

    job: Job
    kernel: Kernel
    probes: list[KernelProbe]
    folder: RunFolder
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
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "online": [],
            "armed": [],
            "lost": {},
            "complete": [],
            "expected_panic": any(isinstance(step, Panic) for step in self.scenario.steps_on(version)),
            # What stands here when nobody lives to write how it really ended.
            "fault": {"type": "Interrupted", "exit": 3, "text": "the harness was killed during this run"},
        }
        self.folder.write_text("scenario.yaml", to_yaml(self.scenario))
        self._save()
        try:
            self._require_engine()
            self._run_machine()
            self._meta["fault"] = None
        except HarnessError as error:
            self._meta["fault"] = {"type": type(error).__name__, "exit": int(error.exit), "text": str(error)}
            if isinstance(error, UsageError):
                raise
        except KeyboardInterrupt:
            self._meta["fault"] = {"type": "Interrupted", "exit": 3, "text": "interrupted"}
            raise
        finally:
            self._collect()
            self._save()

    def _save(self) -> None:
        self.folder.write_json("run.json", self._meta)

    def _require_engine(self) -> None:
        wanted, engine = self.scenario.machine.virt, self.job.engine
        if wanted not in ("any", engine.extension.name):
            raise NotExercised(
                f"the scenario needs {wanted.upper()}, engine {engine.name} has {engine.extension.name.upper()}"
            )
        if self.scenario.points:
            raise NotExercised(f"the scenario holds tasks at points, which engine {engine.name} cannot")

    def _run_machine(self) -> None:
        deadline = Deadline.after(_PREPARE_S, "the guest image")
        steps = self.scenario.steps_on(str(self.kernel.version))
        modules = sorted({name for step in steps for name in EXTRA_MODULES.get(type(step), ())})
        spec, folder = self._spec(steps), self.folder.path
        with prepared(self.kernel, self.job.engine, self.job.qemu, folder, spec, modules, deadline) as session:
            tracer = Tracer(self.probes, self.folder.path)
            try:
                Steps(self.scenario, session, tracer, self.folder, self._booted).run(steps)
            finally:
                self._meta |= {"lost": tracer.lost, "complete": sorted(tracer.complete)}

    def _spec(self, steps: list[Step]) -> MachineSpec:
        section = self.scenario.machine
        crash = any(isinstance(step, Panic) and step.crash_kernel for step in steps)
        return MachineSpec(
            cpus=section.cpus,
            max_cpus=section.max_cpus or 0,
            memory_mib=max(section.memory, 1024) if crash else section.memory,
            without_virt=section.without_virt,
            cmdline=" ".join([section.cmdline, _CRASH_MEMORY if crash else ""]).strip(),
            kexec_disks=any(isinstance(step, (Kexec, Panic)) for step in steps),
        )

    def _booted(self, session: Session, refused: list[str]) -> None:
        """Notes what the first boot found; an unknown function is the scenario's fault."""
        if session.machine.boot.number > 1:
            return
        for probe in self.scenario.probes_on(str(self.kernel.version), self.job.engine.extension.name):
            # A patch may have removed or inlined a function: then its expectations are unseen, which is no mistake
            # of the scenario's.
            if probe.name in refused and not self.job.options.patches:
                raise _probe_error(self.scenario, probe, f"kernel {self.kernel.release} cannot trace {probe.name}")
        self._meta |= {
            "online": list(session.online),
            "armed": [probe.name for probe in self.probes if probe.name not in refused],
        }
        self._save()

    def _collect(self) -> None:
        """Turns the guest's stream into events.jsonl."""
        streams = [self.folder.path / name for name in STREAMS if (self.folder.path / name).exists()]
        if streams:
            trace = parse_trace(
                line for stream in streams for line in stream.read_text(errors="replace").splitlines()
            )
            for boot, count in trace.lost.items():
                self._meta["lost"][boot] = self._meta["lost"].get(boot, 0) + count
            with (self.folder.path / "events.jsonl").open("w") as file:
                file.writelines(json.dumps(event.to_json()) + "\n" for event in trace.events)


@dataclass
class Steps:
    """The steps of a run on a live machine."""

    scenario: Scenario
    session: Session
    tracer: Tracer
    folder: RunFolder
    booted: Callable[[Session, list[str]], None]

    def run(self, steps: list[Step]) -> None:
        """Boots, does `steps` one after the other, and finishes the trace."""
        self.session.when_asleep = self._sample
        with progress.task("boot"):
            deadline = Deadline.after(_BOOT_S, "the guest's boot")
            self.session.machine.start(deadline)
            self._enter_boot(deadline)
        for step in steps:
            with progress.task(step.title):
                self._do(step)
        self._end()

    def _enter_boot(self, deadline: Deadline) -> None:
        self.session.machine.wait_ready(deadline)
        self.session.shell.connect(deadline)
        self.booted(self.session, self.tracer.arm(self.session, deadline))

    def _do(self, step: Step) -> None:
        begin = time.monotonic()
        machine = self.session.machine
        boot, online, position = machine.boot.number, self.session.online, machine.console.position
        deadline = Deadline.after(step.seconds, f"step {step.id!r}")
        result = Result(UNFINISHED)
        try:
            result = self._perform(step, deadline)
        except DeadlineExceeded as timeout:
            raise why_hung(step.id, self.session, timeout) from timeout
        finally:
            console = tuple(line.text for line in machine.console.lines(position)[-40:])
            outcome = Outcome(
                step.id, step.kind, boot, result.value, time.monotonic() - begin, online, result.detail, console
            )
            self.folder.append("steps.jsonl", outcome.to_json())
        if machine.state in _SAMPLED_ENDS:
            self._sample(_SAMPLED_ENDS[machine.state], deadline)

    def _perform(self, step: Step, deadline: Deadline) -> Result:
        if isinstance(step, Suspend):
            self.tracer.use_serial_line(self.session, deadline)
        if isinstance(step, _BOOT_ENDERS):
            self.tracer.follow_to_the_end(self.session, deadline)
        if isinstance(step, Sample):
            self._sample(step.name, deadline)
            return Result()
        if isinstance(step, Boot):
            if self.session.machine.state is not State.BOOTING:  # after a kexec it boots already
                self.session.machine.continue_boot(deadline)
            self._enter_boot(deadline)
            return Result()
        if isinstance(step, Start):
            actor = self.scenario.actors[step.actor]
            self.session.start_marked(actor.id, pinned(actor, command(actor, self.session)), deadline)
            return Result()
        if isinstance(step, Until) and step.what.endswith(".exit"):
            return self._await_actor(step.what.removesuffix(".exit"), deadline)
        return perform(step, self.session, deadline)

    def _await_actor(self, name: str, deadline: Deadline) -> Result:
        actor = self.scenario.actors[name]
        begin, boot, online = time.monotonic(), self.session.machine.boot.number, self.session.online
        done = self.session.note_online(self.session.background.pop(name).wait(deadline))
        result = result_of(actor, done)
        outcome = Outcome(name, actor.kind, boot, result.value, time.monotonic() - begin, online, result.detail)
        self.folder.append("steps.jsonl", outcome.to_json())
        return Result()

    def _sample(self, name: str, deadline: Deadline) -> None:
        """Takes a sample and keeps it."""
        self.folder.append("samples.jsonl", take_sample(name, self.session, deadline).to_json())

    def _end(self) -> None:
        """Finishes the trace of a guest that is alive, and keeps its kernel log."""
        deadline = Deadline.after(_FINISH_S, "the end of the trace")
        running = self.session.machine.check(*State) is State.RUNNING
        if not running or self.session.halted or not self.session.shell.alive:
            return
        self.tracer.finish(self.session, deadline)
        self.folder.write_text("dmesg.txt", self.session.run("dmesg", deadline).stdout)


_BOOT_ENDERS = (Reboot, Poweroff, Halt, Kexec, Panic)

# Samples that are taken by themselves, with the guest paused.
_SAMPLED_ENDS = {State.RESET: "reset", State.OFF: "power-off"}
