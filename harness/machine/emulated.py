"""The emulated platform of a machine, put together from what the machine is: its CPUs, packages and memory."""

from __future__ import annotations

from pathlib import Path

from harness.deadline import Deadline
from harness.machine.argv import MachineSpec
from harness.machine.engine import Engine
from harness.machine.toolchain import Qemu
from harness.platform import build
from harness.platform.link import Platform
from harness.platform.tdx import Layout, TdxModule, pc_cmrs


def platform_of(spec: MachineSpec, engine: Engine, qemu: Qemu, run: Path, deadline: Deadline) -> Platform | None:
    """The platform of a machine that is to be started in folder `run`; None for an engine that needs none.

    Raises UsageError for a QEMU that cannot have it, HostFault when the plugin does not compile here.
    """
    if not engine.emulated:
        return None
    config = spec.platform
    tdx = TdxModule(config.tdx, layout_of(spec)) if config.tdx is not None else None
    return Platform(build.plugin(qemu.version, deadline), run, config.setup(spec.cpus_without_virt), tdx)


def layout_of(spec: MachineSpec) -> Layout:
    """What firmware tells the TDX module at power-on. CPUs that are plugged in later are not part of it."""
    cores = spec.cpus // spec.sockets
    return Layout({cpu: cpu // cores for cpu in range(spec.cpus)}, pc_cmrs(spec.memory_mib << 20))
