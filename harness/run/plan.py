"""What a run would do, found out without booting, fetching or building anything (`harness run --dry-run`)."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.cache import NotInCache, reading_only
from harness.deadline import Deadline
from harness.errors import NotExercised
from harness.guest.boot import GuestPlan
from harness.images.direct import direct_image
from harness.kernels.model import Kernel
from harness.kernels.packaged import DebianSource
from harness.kernels.resolve import parse
from harness.machine.argv import BY_HAND, BootFiles, argv, groups
from harness.paths import cache_dir
from harness.probes.points import ArmedPoint
from harness.probes.tracefs import KernelProbe
from harness.run.guest_plan import guest_plan, kernel_for, lacking
from harness.run.holders import holder_name
from harness.run.job import Job
from harness.run.requirements import armed_points, kernel_probes, needed_config
from harness.run.warm import cold_reason, snapshot_key
from harness.scenario.steps import Start, Step

T = TypeVar("T")
Fact = tuple[str, tuple[str, ...]]  # a label, and lines

_LOOK_S = 120.0  # to look things up in the cache; the snapshot of a source tree may take seconds


@dataclass(frozen=True)
class Plan:
    """A run that is not made. `command` starts its machine by hand."""

    title: str
    facts: tuple[Fact, ...]
    command: str

    def lines(self) -> Iterator[str]:
        """The plan for a person."""
        yield self.title
        for label, lines in self.facts:
            for number, line in enumerate(lines):
                yield f"  {'' if number else label:9}{line}"
        if self.command:
            yield "  by hand, with the console on the terminal:"
            yield ""
            yield self.command


def plan(job: Job, why_engine: str) -> Plan:
    """The plan of a run. Raises UsageError for what `run_job` would raise it for, before any boot."""
    scenario = job.scenario
    facts: list[Fact] = [
        ("scenario", (f"{scenario.path}: {scenario.title}",)),
        ("claims", (", ".join(use.claim.id for use in scenario.claims),)),
        ("engine", (f"{job.engine.label}: {why_engine}",)),
        ("QEMU", (f"{job.qemu.version}, {job.qemu.origin}",)),
    ]
    command = ""
    with reading_only():
        deadline = Deadline.after(_LOOK_S, f"the plan of {scenario.name}")
        try:
            kernel = kernel_for(scenario, job.kernel, job.options, job.engine, deadline)
        except NotInCache:
            facts += [("kernel", (_to_come(job),)), ("steps", _steps(scenario.steps, job))]
            return Plan(f"{scenario.name} on {job.label}", tuple(facts), "")
        kernel.require_config(needed_config(scenario, kernel))
        facts.append(("kernel", (f"{kernel.release}, in the cache as {kernel.key}",)))
        if why := lacking(scenario, kernel, job.engine):
            facts.append(("verdict", (f"not exercised: {why}",)))
        else:
            more, command = _of_kernel(job, kernel, deadline)
            facts += more
    return Plan(f"{scenario.name} on {job.label}", tuple(facts), command)


def _to_come(job: Job) -> str:
    """What is done for a kernel that is not in the cache."""
    if job.options.modules_only:
        return "not in the cache: its KVM modules would be built, after what it lacks is fetched from Debian"
    if isinstance(parse(job.kernel), DebianSource):
        return "not in the cache: it would be fetched from Debian"
    return "not in the cache: it would be compiled, in ten minutes on two cores"


def _of_kernel(job: Job, kernel: Kernel, deadline: Deadline) -> tuple[list[Fact], str]:
    """What depends on the kernel, and the command."""
    scenario, vendor = job.scenario, job.engine.extension.name
    probes = kernel_probes(scenario, kernel, job.engine)
    points = armed_points(scenario, kernel, job.engine)
    steps = scenario.steps_on(str(kernel.version), vendor)
    try:
        guest = guest_plan(scenario, kernel, job.engine, job.qemu)
    except NotExercised as error:
        return [("verdict", (f"not exercised: {error.what}",))], ""
    modules = {probe.module for probe in probes} | {point.module for point in points.values()}
    cold = "asked for" if job.cold else cold_reason(scenario, kernel, job.engine, modules - {""})
    image = _there(lambda: guest.image(deadline).base)
    facts: list[Fact] = [
        ("image", (str(image) if image else "it would be built",)),
        ("start", (_start(guest, cold, deadline),)),
        ("probes", _probes(probes)),
        ("points", tuple(_point(job, point) for point in points.values()) or ("none",)),
        ("steps", _steps(steps, job)),
    ]
    return facts, _command(guest, image, deadline)


def _start(guest: GuestPlan, cold: str, deadline: Deadline) -> str:
    if cold:
        return f"it boots: {cold}"
    key = _there(lambda: snapshot_key(guest, deadline))
    if key and (cache_dir() / "snapshots" / key).exists():
        return f"it goes on from snapshot {key}"
    return "it goes on from a snapshot, which would be made first, by a boot"


def _probes(probes: list[KernelProbe]) -> tuple[str, ...]:
    return (", ".join(_probe(probe) for probe in probes) or "none",)


def _probe(probe: KernelProbe) -> str:
    symbol = f"{probe.module}:{probe.symbol}" if probe.module else probe.symbol
    return probe.name if not probe.symbol or symbol == probe.name else f"{probe.name} ({symbol})"


def _point(job: Job, point: ArmedPoint) -> str:
    """`in-window at the call of kvm:kvm_init by load, soft, by the gdbstub`."""
    whose = job.scenario.points[point.name].actor
    symbol = f"{point.module}:{point.symbol}" if point.module else point.symbol
    holder = holder_name(point.mode, job.holds, emulated=job.engine.emulated)
    by = f" by {whose}" if whose else ""
    return f"{point.name} at the {point.phase} of {symbol}{by}, {point.mode}, held by the {holder}"


def _steps(steps: list[Step], job: Job) -> tuple[str, ...]:
    lines = [f"{number:2}. {step.title:<44} {step.seconds:g} s" for number, step in enumerate(steps, start=1)]
    actors = {step.actor for step in steps if isinstance(step, Start)}
    for name in sorted(actors):
        lines.append(f"    actor {name}: {job.scenario.actors[name].title.removeprefix(f'{name}: ')}")
    return (*lines, f"    together at most {sum(step.seconds for step in steps):g} s, after the start")


def _command(guest: GuestPlan, image: Path | None, deadline: Deadline) -> str:
    """A pasteable command, in a folder of its own: QEMU leaves logs and a socket where it is started."""
    kernel = _there(lambda: direct_image(guest.kernel, deadline)) or guest.kernel.image
    initrd = image or cache_dir() / "images" / "not-built-yet" / "initramfs.cpio"
    files = BootFiles(kernel, initrd, kexec=guest.kernel.image)
    parts = groups(guest.spec, guest.engine, files, Path(), BY_HAND)
    words = [argv(guest.qemu, ())] + [list(part.words) for part in parts if part.words]
    lines = " \\\n  ".join(shlex.join(line) for line in words)
    left_out = "".join(f"# {part.why}\n" for part in parts if not part.words)
    return f'{left_out}cd "$(mktemp -d)" &&\n{lines}\n'


def _there(look: Callable[[], T]) -> T | None:
    """What is in the cache; None for what is not."""
    try:
        return look()
    except NotInCache:
        return None
