"""Holds by the plugin, in a real kernel: that of a module's load, while the guest goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.machine import toolchain
from harness.machine.argv import MachineSpec
from harness.machine.bell import Bell
from harness.platform.link import EVENTS
from harness.probes.event import Event
from harness.probes.functions import FunctionProbes
from harness.probes.kallsyms import symbol_table
from harness.probes.platform_log import parse_platform
from harness.probes.plugin_holds import PluginHolder
from harness.probes.points import ArmedPoint, Held
from harness.probes.tracefs import KernelProbe
from tests import guests

pytestmark = pytest.mark.boot

CMDLINE = "preempt=full irqaffinity=0"
LOAD = "modprobe kvm_intel"
UNLOAD = "rmmod kvm_intel kvm"


@dataclass
class Holding:
    """A guest, and what can hold its tasks."""

    guest: guests.Guest
    functions: FunctionProbes
    holder: PluginHolder
    bell: Bell
    log: Path
    seen: int = field(default=0)

    def hold(self, name: str) -> Held:
        return self.bell.wait_for(lambda: self.holder.held(name), guests.deadline(60))

    def run(self, command: str) -> str:
        result = self.guest.shell.run(command, guests.deadline(30))
        assert result.status == 0, result.output
        return result.stdout

    def events(self) -> list[Event]:
        """Those since the last call."""
        trace = parse_platform(self.log.read_text().splitlines(), self.functions.fetches)
        assert not trace.lost
        new = trace.events[self.seen :]
        self.seen = len(trace.events)
        return new


@contextlib.contextmanager
def _booted(folder: Path) -> Iterator[Holding]:
    guest = guests.make(folder, MachineSpec(cpus=2, cmdline=CMDLINE), "tcg-vmx")
    platform = guest.machine.platform
    assert platform is not None
    symbols = symbol_table(guests.kernel(), toolchain.find(guests.deadline(600)))
    traced = [KernelProbe(name, name) for name in ("register_syscore_ops", "__cpuhp_setup_state")]
    functions = FunctionProbes.on(platform, guests.kernel(), symbols, traced)
    bell = Bell()
    holder = PluginHolder(functions, bell.ring)
    with guest.machine, contextlib.closing(holder):
        guest.boot()
        yield Holding(guest, functions, holder, bell, folder / EVENTS)


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holding]:
    with _booted(tmp_path_factory.mktemp("holds")) as holding:
        yield holding


@pytest.fixture
def holding(booted: Holding) -> Iterator[Holding]:
    """The shared guest, without modules and with its events read; whatever the test left held is let go."""
    booted.events()
    yield booted
    booted.holder.close()
    booted.run(f"while pidof modprobe; do sleep 0.05; done; {UNLOAD} 2>&1; true")


def test_the_guest_goes_on_while_a_load_is_held(holding: Holding) -> None:
    holding.holder.arm(ArmedPoint("in-load", "register_syscore_ops"), guests.deadline())
    load = holding.guest.shell.start(f"taskset -c 1 {LOAD}", guests.deadline())
    held = holding.hold("in-load")
    assert (held.point, held.cpu, held.task) == ("in-load", 1, "modprobe") and held.preemptible
    begin = time.monotonic()
    assert holding.run("taskset -c 0 cat /proc/modules").split()[0] == "kvm_intel"
    assert holding.run("taskset -c 1 cat /proc/sys/kernel/tainted") != ""  # the held task yields its CPU
    print(f"two commands: {time.monotonic() - begin:.2f} s")
    assert load.poll(guests.deadline()) is None
    holding.holder.release("in-load", guests.deadline())
    assert load.wait(guests.deadline()).status == 0
    assert holding.holder.held("in-load") is None
    marks = [(event.name, event.phase) for event in holding.events() if event.task == "modprobe"]
    at = marks.index(("in-load", "held"))
    assert marks[at : at + 3] == [
        ("in-load", "held"),
        ("in-load", "released"),
        ("register_syscore_ops", "call"),
    ]
