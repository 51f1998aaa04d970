"""Guests whose tasks can be held: by the plugin, and by the gdbstub."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.guest.ssh import Background
from harness.machine import toolchain
from harness.machine.argv import MachineSpec
from harness.platform.link import EVENTS
from harness.probes.addresses import SymbolTable
from harness.probes.event import Event
from harness.probes.fetch import Fetch
from harness.probes.functions import FunctionProbes
from harness.probes.gdb_holds import HOLDS_LOG, GdbHolder
from harness.probes.kallsyms import symbol_table
from harness.probes.platform_log import parse_platform
from harness.probes.plugin_holds import PluginHolder
from harness.probes.points import ArmedPoint, Held, Holder
from harness.probes.tracefs import KernelProbe
from tests import guests

SYSCORE = "register_syscore_ops"  # called once by each load of the vendor module, at its end
SETUP = "__cpuhp_setup_state"  # before that, for CPUs that come online
MKDIR = "do_mkdirat"  # once by each mkdir, and by nobody else in a guest that is up
CHMOD = "chmod_common"

_SPEC = MachineSpec(cpus=2, cmdline="preempt=full irqaffinity=0")


@dataclass
class Stand:
    """A guest, and the way in which its tasks are held."""

    guest: guests.Guest
    module: str  # KVM's, for this CPU
    log: Path  # where the holder's events go
    fetches: Mapping[str, Mapping[str, Fetch]]
    holder: Callable[[], Holder]  # for one test

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


@dataclass
class Holding:
    """What one test has of a stand: it begins without KVM, and with nobody held."""

    stand: Stand
    holder: Holder
    before: int  # lines of the log
    armed: list[str] = field(default_factory=list)

    @property
    def guest(self) -> guests.Guest:
        return self.stand.guest

    @property
    def load(self) -> str:
        return f"modprobe {self.stand.module}"

    @property
    def unload(self) -> str:
        return f"rmmod {self.stand.module} kvm"

    def arm(self, point: ArmedPoint) -> None:
        self.holder.arm(point, guests.deadline(30))
        self.armed.append(point.name)

    def held(self, name: str) -> Held:
        def look() -> Held | None:
            self.holder.check()
            return self.holder.held(name)

        return self.guest.machine.watch(look, guests.deadline(60))

    def release(self, name: str) -> None:
        self.holder.release(name, guests.deadline(30))

    def start(self, command: str) -> Background:
        return self.guest.shell.start(command, guests.deadline(60))

    def run(self, command: str) -> str:
        result = self.guest.shell.run(command, guests.deadline(60))
        assert result.status == 0, result.output
        return result.stdout

    def lines(self) -> list[str]:
        """What the log has of this test."""
        return self.stand.lines()[self.before :]

    def events(self) -> list[Event]:
        trace = parse_platform(self.lines(), self.stand.fetches)
        assert not trace.lost
        return trace.events

    def marks(self) -> list[tuple[str, str]]:
        """What became of the points of this test."""
        return [(event.name, event.phase) for event in self.events() if event.name in self.armed]

    def clean(self) -> None:
        for name in self.armed:
            self.release(name)
        if self.guest.answers:
            self.run(f"while pidof modprobe; do sleep 0.05; done; {self.unload} 2>&1; rm -rf /tmp/dir*; true")


@contextlib.contextmanager
def holding_at(stand: Stand) -> Iterator[Holding]:
    if not stand.guest.answers:
        stand.guest.boot()
    holding = Holding(stand, stand.holder(), len(stand.lines()))
    yield holding
    holding.clean()


def gdb_holder(guest: guests.Guest) -> GdbHolder:
    return GdbHolder(guest.machine, guests.kernel(), _symbols(), guests.deadline())


def _symbols() -> SymbolTable:
    return symbol_table(guests.kernel(), toolchain.find(guests.deadline(600)))


@contextlib.contextmanager
def plugin_stand(folder: Path) -> Iterator[Stand]:
    """On `tcg-vmx`, with functions of KVM's load traced. A holder knows what it has lost: each test has one."""
    guest = guests.make(folder, _SPEC, "tcg-vmx")
    platform = guest.machine.platform
    assert platform is not None
    traced = [KernelProbe(SYSCORE, SYSCORE), KernelProbe(SETUP, SETUP, fetch=(("state", "$arg1:u32"),))]
    functions = FunctionProbes.on(platform, guests.kernel(), _symbols(), traced)
    with guest.machine as machine:
        guest.boot()
        log = folder / EVENTS
        yield Stand(guest, "kvm_intel", log, functions.fetches, lambda: PluginHolder(functions, machine.ring))


@contextlib.contextmanager
def gdb_stand(folder: Path) -> Iterator[Stand]:
    """With one holder: QEMU's gdbstub has room for one debugger."""
    guest = guests.make(folder, _SPEC)
    with guest.machine as machine:
        guest.boot()
        holder = gdb_holder(guest)
        yield Stand(guest, "kvm_amd", machine.run / HOLDS_LOG, {}, lambda: holder)
        holder.close()
