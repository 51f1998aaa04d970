"""The guest that a scenario gets on a kernel and an engine."""

from __future__ import annotations

from collections.abc import Sequence

from harness.deadline import Deadline
from harness.guest.actions import EXTRA_MODULES
from harness.guest.boot import GuestPlan
from harness.kernels.model import BuildOptions, Kernel
from harness.kernels.resolve import resolve, with_own_modules
from harness.machine.argv import MachineSpec
from harness.machine.engine import Engine
from harness.machine.toolchain import Qemu
from harness.run.holds import CMDLINE as HOLDS_CMDLINE
from harness.run.requirements import loaded_modules, named_modules
from harness.scenario.model import Scenario
from harness.scenario.steps import Kexec, Panic, Step

# The crash kernel and its initramfs must fit into what is set aside.
_CRASH_MEMORY = "crashkernel=160M"


def kernel_for(scenario: Scenario, spec: str, options: BuildOptions, engine: Engine, deadline: Deadline) -> Kernel:
    """The kernel for a run of `scenario`, with the modules of the harness that the scenario loads."""
    kernel = resolve(spec, options, deadline)
    return with_own_modules(kernel, named_modules(scenario, kernel, engine), deadline)


def lacking(scenario: Scenario, kernel: Kernel, engine: Engine) -> str:
    """Why the scenario would not be exercised on this kernel and engine; "" when it can be."""
    if what := engine.lacks(scenario.machine):
        return f"the scenario needs {what}, which engine {engine.name} does not have"
    if scenario.machine.tdx is not None and kernel.config and "CONFIG_INTEL_TDX_HOST" not in kernel.config:
        return f"the scenario needs TDX, kernel {kernel.spec} lacks CONFIG_INTEL_TDX_HOST"
    return ""


def guest_plan(scenario: Scenario, kernel: Kernel, engine: Engine, qemu: Qemu) -> GuestPlan:
    """The guest of a run of `scenario`. Raises NotExercised for a module that the kernel does not have."""
    version, vendor = str(kernel.version), engine.extension.name
    steps = scenario.steps_on(version, vendor)
    extra = {name for step in steps for name in EXTRA_MODULES.get(type(step), ())}
    modules = sorted(extra.union(loaded_modules(scenario, kernel, engine)))
    spec = machine_spec(scenario, steps, with_points=bool(scenario.points_on(version, vendor)))
    return GuestPlan(kernel, engine, qemu, spec, tuple(modules))


def machine_spec(scenario: Scenario, steps: Sequence[Step], *, with_points: bool) -> MachineSpec:
    """The machine on which the scenario's `steps` are done; `with_points`: tasks are held on it."""
    section = scenario.machine
    crash = any(isinstance(step, Panic) and step.crash_kernel for step in steps)
    kexec = any(isinstance(step, Kexec) for step in [*steps, *scenario.actors.values()])
    words = (HOLDS_CMDLINE if with_points else "", section.cmdline, _CRASH_MEMORY if crash else "")
    return MachineSpec(
        cpus=section.cpus,
        max_cpus=section.max_cpus or 0,
        sockets=section.sockets,
        memory_mib=section.memory,
        without_virt=section.without_virt,
        cpu_model=section.cpu.model if section.cpu is not None else "",
        cmdline=" ".join(word for word in words if word),
        kexec_disks=kexec or crash,
        platform=section.platform(),
    )
