"""The emulated platform: what its plugin costs a boot, and how long an event and a SEAMCALL take."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.bench.life import first_command
from harness.bench.setup import Setup
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.guest.boot import GuestPlan, fresh
from harness.guest.session import Session
from harness.images.direct import direct_image
from harness.images.initramfs import build_image
from harness.images.recipe import load_recipe
from harness.kernels import BuildOptions, resolve
from harness.machine.argv import BootFiles, MachineSpec
from harness.machine.emulated import layout_of
from harness.machine.engine import Engine, by_name
from harness.machine.machine import Machine
from harness.platform import build
from harness.platform.config import PlatformConfig
from harness.platform.link import EVENTS, Platform, Probe
from harness.platform.tdx import Completion, Layout, Memory, ModuleConfig, Registers, TdxModule, leaf_name

WITH = "boot with the plugin (tcg-vmx)"
WITHOUT = "the same without it"
EVENTS_NAME = "10 000 events of 20 traced functions"
SEAMCALLS = "1 000 SEAMCALLs"

_EMULATED = by_name("tcg-vmx", "")
_TDX_KERNEL = "debian-source:7.3+tdx"

# What a read() of one byte runs through, and then functions that it does not: a probe that is not hit costs, too.
_FUNCTIONS = (
    *("__x64_sys_read", "ksys_read", "vfs_read", "rw_verify_area", "security_file_permission", "read_zero"),
    *("__x64_sys_write", "ksys_write", "vfs_write", "write_null", "do_syscall_64", "x64_sys_call"),
    *("kernel_restart", "machine_restart", "kvm_shutdown", "cpu_down", "cpu_up", "register_syscore_ops"),
    *(
        "migrate_to_reboot_cpu",
        "native_machine_emergency_restart",
        "__cpuhp_setup_state",
        "pm_suspend",
        "free_module",
    ),
)
_PROBES = 20
_WORK = "dd if=/dev/zero of=/dev/null bs=1 count=5000 2>/dev/null"


class Boot:
    """A boot of the standard machine until a command over SSH answers, with the plugin or with its CPUs alone."""

    def __init__(self, setup: Setup, name: str) -> None:
        self._setup = setup
        self.name = name

    def prepare(self, deadline: Deadline) -> None:
        _fill_caches(self._setup, deadline)

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        engine = _EMULATED if self.name == WITH else _without_plugin()
        with _session(self._setup, engine, deadline) as session:
            begin = time.monotonic()
            first_command(session, deadline)
            return {self.name: time.monotonic() - begin}


class Events:
    """Calls and returns of functions, as fast as the guest can make them."""

    name = EVENTS_NAME

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def prepare(self, deadline: Deadline) -> None:
        _fill_caches(self._setup, deadline)

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        with _session(self._setup, _EMULATED, deadline) as session:
            first_command(session, deadline)
            platform, log = session.machine.platform, session.machine.run / EVENTS
            assert platform is not None  # the engine has one
            for name, address in _addresses(session, deadline):
                platform.add_probe(Probe(name, address), deadline)
            session.run(_WORK, deadline)  # translations are made again after a probe came
            before, begin = _lines(log), time.monotonic()
            session.run(_WORK, deadline)
            seconds, events = time.monotonic() - begin, _lines(log) - before
            return {EVENTS_NAME: seconds / events * 10_000}


class Seamcalls:
    """From one SEAMCALL to the next, in the loop of TDH.SYS.TDMR.INIT: the kernel does nothing between them."""

    name = SEAMCALLS

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def prepare(self, deadline: Deadline) -> None:
        kernel = resolve(_TDX_KERNEL, BuildOptions(), deadline)
        build_image(kernel, load_recipe(), (), deadline)

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        kernel = resolve(_TDX_KERNEL, BuildOptions(), deadline)
        tdx = ModuleConfig()
        spec = MachineSpec(memory_mib=768, platform=PlatformConfig(tdx=tdx))
        module = _TimedModule(tdx, layout_of(spec))
        with tempfile.TemporaryDirectory(dir=self._setup.scratch) as name:
            folder = Path(name)
            initrd = build_image(kernel, load_recipe(), (), deadline).write(folder / "initramfs.cpio", b"")
            plugin = build.plugin(self._setup.qemu.version, deadline)
            platform = Platform(plugin, folder, spec.platform.setup(), module)
            files = BootFiles(direct_image(kernel, deadline), initrd)
            with Machine(spec, _EMULATED, self._setup.qemu, files, folder, platform) as machine:
                machine.start(deadline)
                machine.wait_console("TDX-Module initialized", deadline)
        return {SEAMCALLS: module.interval * 1000}


class _TimedModule(TdxModule):
    """Notes when each TDH.SYS.TDMR.INIT arrives."""

    def __init__(self, config: ModuleConfig, layout: Layout) -> None:
        super().__init__(config, layout)
        self._arrivals: list[float] = []

    def seamcall(self, lp: int, registers: Registers, memory: Memory) -> Completion:
        if leaf_name(registers.rax) == "TDH.SYS.TDMR.INIT":
            self._arrivals.append(time.monotonic())
        return super().seamcall(lp, registers, memory)

    @property
    def interval(self) -> float:
        """Seconds, median. Raises HostFault when there were too few calls."""
        if len(self._arrivals) < 10:
            raise HostFault("too few calls of TDH.SYS.TDMR.INIT to measure", found=str(len(self._arrivals)))
        return statistics.median(later - earlier for earlier, later in itertools.pairwise(self._arrivals))


def _without_plugin() -> Engine:
    """The same CPUs to the guest, whose VMX instructions nobody emulates."""
    cpu = ",".join((_EMULATED.cpu, *PlatformConfig().cpu.qemu_properties()))
    return dataclasses.replace(_EMULATED, cpu=cpu, emulated=False)


@contextlib.contextmanager
def _session(setup: Setup, engine: Engine, deadline: Deadline) -> Iterator[Session]:
    with (
        tempfile.TemporaryDirectory(dir=setup.scratch) as folder,
        fresh(GuestPlan(setup.kernel, engine, setup.qemu, MachineSpec()), Path(folder), deadline) as session,
    ):
        yield session


def _addresses(session: Session, deadline: Deadline) -> list[tuple[str, int]]:
    """The first functions of _FUNCTIONS that this kernel has. Raises HostFault when they are too few."""
    words = [line.split() for line in session.run("cat /proc/kallsyms", deadline).stdout.splitlines()]
    found = {name: int(address, 16) for address, kind, name, *module in words if kind in "tT" and not module}
    chosen = [(name, found[name]) for name in _FUNCTIONS if name in found][:_PROBES]
    if len(chosen) < _PROBES:
        raise HostFault(f"the kernel has only {len(chosen)} of the functions to trace", expected=str(_PROBES))
    return chosen


def _lines(log: Path) -> int:
    with log.open("rb") as file:
        return sum(1 for _ in file)


def _fill_caches(setup: Setup, deadline: Deadline) -> None:
    build.plugin(setup.qemu.version, deadline)
    build_image(setup.kernel, load_recipe(), (), deadline)
    direct_image(setup.kernel, deadline)
