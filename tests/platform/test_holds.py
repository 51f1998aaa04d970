"""Holds by the plugin, in a real kernel: that of a module's load, while the guest goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import NotExercised
from harness.guest.ssh import Background
from harness.machine import toolchain
from harness.machine.argv import MachineSpec
from harness.machine.bell import Bell
from harness.machine.state import State
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
SYSCORE = "register_syscore_ops"  # called once by each load of kvm_intel, at its end
SETUP = "__cpuhp_setup_state"  # before that, for CPUs that come online
QUIET_S = 0.3  # for what must not happen; an unheld load is done in 0.2 s


@dataclass
class Holding:
    """A guest, and what can hold its tasks."""

    guest: guests.Guest
    functions: FunctionProbes
    holder: PluginHolder
    bell: Bell
    log: Path

    def arm(self, point: ArmedPoint) -> None:
        self.holder.arm(point, guests.deadline(10))

    def held(self, name: str) -> Held:
        return self.bell.wait_for(lambda: self.holder.held(name), guests.deadline(60))

    def release(self, name: str) -> None:
        self.holder.release(name, guests.deadline(10))

    def start(self, command: str) -> Background:
        return self.guest.shell.start(command, guests.deadline())

    def run(self, command: str) -> str:
        result = self.guest.shell.run(command, guests.deadline())
        assert result.status == 0, result.output
        return result.stdout

    def events(self) -> list[Event]:
        trace = parse_platform(self.log.read_text().splitlines(), self.functions.fetches)
        assert not trace.lost
        return trace.events

    def marks(self, *points: str) -> list[tuple[str, str]]:
        """What became of points, and of the functions that are traced, from the first of the points on."""
        names = (*points, SYSCORE, SETUP)
        marks: list[tuple[str, str]] = [(event.name, event.phase) for event in self.events() if event.name in names]
        first = next(at for at, (name, _) in enumerate(marks) if name in points)
        return marks[first:]


@contextlib.contextmanager
def _booted(folder: Path) -> Iterator[Holding]:
    guest = guests.make(folder, MachineSpec(cpus=2, cmdline=CMDLINE), "tcg-vmx")
    platform = guest.machine.platform
    assert platform is not None
    symbols = symbol_table(guests.kernel(), toolchain.find(guests.deadline(600)))
    traced = [KernelProbe(SYSCORE, SYSCORE), KernelProbe(SETUP, SETUP, fetch=(("state", "$arg1:u32"),))]
    functions = FunctionProbes.on(platform, guests.kernel(), symbols, traced)
    bell = Bell()
    with guest.machine:
        guest.boot()
        yield Holding(guest, functions, PluginHolder(functions, bell.ring), bell, folder / EVENTS)


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holding]:
    with _booted(tmp_path_factory.mktemp("holds")) as holding:
        yield holding


@pytest.fixture
def holding(booted: Holding) -> Iterator[Holding]:
    """The shared guest without KVM, and a holder of this test's own."""
    mine = dataclasses.replace(booted, holder=PluginHolder(booted.functions, booted.bell.ring))
    if not mine.guest.answers:
        mine.guest.boot()
    yield mine
    mine.holder.close()
    if mine.guest.answers:
        mine.run(f"while pidof modprobe; do sleep 0.05; done; {UNLOAD} 2>&1; true")


def test_the_guest_goes_on_while_a_load_is_held(holding: Holding) -> None:
    holding.arm(ArmedPoint("in-load", SYSCORE))
    load = holding.start(f"taskset -c 1 {LOAD}")
    held = holding.held("in-load")
    assert (held.point, held.cpu, held.task) == ("in-load", 1, "modprobe") and held.preemptible
    assert holding.run("taskset -c 0 cat /proc/modules").split()[0] == "kvm_intel"
    assert holding.run("taskset -c 1 echo gone by") == "gone by\n"  # a task that is held yields its CPU
    assert load.poll(guests.deadline()) is None
    holding.release("in-load")
    assert load.wait(guests.deadline()).status == 0
    assert holding.holder.held("in-load") is None
    assert holding.marks("in-load") == [
        ("in-load", "held"),
        ("in-load", "released"),
        (SYSCORE, "call"),
        (SYSCORE, "return"),
    ]


def test_a_machine_stops_and_goes_on_with_a_task_held(holding: Holding) -> None:
    holding.arm(ArmedPoint("in-load", SYSCORE))
    load = holding.start(LOAD)
    holding.held("in-load")
    begin = time.monotonic()
    holding.guest.machine.pause(guests.deadline())
    holding.guest.machine.resume(guests.deadline())
    assert time.monotonic() - begin < 2
    holding.release("in-load")
    assert load.wait(guests.deadline()).status == 0


def test_a_held_task_is_moved_when_its_cpu_goes_offline(holding: Holding) -> None:
    """It cannot have been known by its CPU then."""
    holding.arm(ArmedPoint("in-load", SYSCORE))
    load = holding.start(f"taskset -c 1 {LOAD}")
    assert holding.held("in-load").cpu == 1
    holding.run("echo 0 > /sys/devices/system/cpu/cpu1/online")
    assert load.poll(guests.deadline()) is None
    holding.release("in-load")
    assert load.wait(guests.deadline()).status == 0
    holding.run("echo 1 > /sys/devices/system/cpu/cpu1/online")
    released = next(event for event in holding.events()[::-1] if event.phase == "released")
    assert (released.cpu, released.task) == (0, "modprobe")


def test_an_offline_waits_for_its_callback_that_is_held(holding: Holding) -> None:
    holding.run(LOAD)
    # The module is loaded already; its function is known all the same.
    holding.arm(ArmedPoint("in-offline", "kvm_offline_cpu", "kvm", task="cpuhp/1", cpu=1))
    offline = holding.start("echo 0 > /sys/devices/system/cpu/cpu1/online")
    assert holding.held("in-offline").task == "cpuhp/1"
    assert holding.run("cat /sys/devices/system/cpu/online") == "0-1\n"
    assert offline.poll(guests.deadline()) is None
    holding.release("in-offline")
    assert offline.wait(guests.deadline()).status == 0
    assert holding.run("cat /sys/devices/system/cpu/online") == "0\n"
    holding.run("echo 1 > /sys/devices/system/cpu/cpu1/online")


def test_a_point_in_a_module_that_comes_later_holds_at_the_wanted_hit(holding: Holding) -> None:
    holding.arm(ArmedPoint("second", "kvm_online_cpu", "kvm", hit=3))  # two CPUs each time
    holding.run(LOAD)
    holding.run(UNLOAD)
    assert holding.holder.held("second") is None
    load = holding.start(LOAD)
    assert holding.held("second").task == "cpuhp/0"
    holding.release("second")
    assert load.wait(guests.deadline()).status == 0


def test_only_the_actor_s_descendants_are_held(holding: Holding) -> None:
    wait = "while [ ! -e /tmp/go ]; do sleep 0.05; done"
    actor = holding.start(f"rm -f /tmp/go; echo $$; {wait}; taskset -c 0 {LOAD}; true")
    pid = holding.bell.wait_for(lambda: int(actor.stdout) if actor.stdout else None, guests.deadline())
    holding.arm(ArmedPoint("mine", SYSCORE, pid=pid))
    holding.run(f"{LOAD} && {UNLOAD}")
    assert holding.holder.held("mine") is None
    holding.run("touch /tmp/go")
    held = holding.held("mine")
    assert held.task == "modprobe" and held.pid != pid
    holding.release("mine")
    assert actor.wait(guests.deadline()).status == 0


def test_an_argument_decides_and_the_hold_is_after_the_return(holding: Holding) -> None:
    holding.run(f"{LOAD} && {UNLOAD}")
    states = [event.args["state"] for event in holding.events() if (event.name, event.phase) == (SETUP, "call")]
    state = int(str(states[-1]))
    holding.arm(ArmedPoint("other", SETUP, phase="return", when=(("$arg1:u32", state + 1),)))
    holding.arm(ArmedPoint("set-up", SETUP, phase="return", when=(("$arg1:u32", state),)))
    load = holding.start(LOAD)
    assert holding.held("set-up").task == "modprobe"
    assert holding.holder.held("other") is None
    assert holding.events()[-2].phase == "return"
    holding.release("set-up")
    assert load.wait(guests.deadline()).status == 0
    assert holding.marks("set-up")[:3] == [("set-up", "held"), ("set-up", "released"), (SYSCORE, "call")]


def test_a_place_without_preemption_is_told(holding: Holding) -> None:
    holding.arm(ArmedPoint("in-ipi", "__rdmsr_safe_on_cpu", mode="busy", cpu=1))
    read = holding.start("taskset -c 0 dd if=/dev/cpu/1/msr bs=8 count=1 skip=2 of=/dev/null")  # MSR 0x10, the TSC
    held = holding.held("in-ipi")
    # In an interrupt, or called by the idle task, which saves the interrupt (kernel/sched/idle.c, do_idle()).
    assert not held.interrupts and held.preempt_count > 0 and not held.preemptible
    # No command here: the kernel may take the CPU for idle, and give it to its shell.
    assert read.poll(guests.deadline()) is None
    holding.release("in-ipi")
    assert read.wait(guests.deadline()).status == 0


def test_two_points_at_one_place_hold_until_both_are_released(holding: Holding) -> None:
    for name in ("one", "two"):
        holding.arm(ArmedPoint(name, SYSCORE))
    load = holding.start(LOAD)
    holding.held("one")
    holding.held("two")
    holding.release("one")
    time.sleep(QUIET_S)
    assert load.poll(guests.deadline()) is None
    holding.release("two")
    assert load.wait(guests.deadline()).status == 0
    assert holding.marks("one", "two")[:5] == [
        ("one", "held"),
        ("two", "held"),
        ("one", "released"),
        ("two", "released"),
        (SYSCORE, "call"),
    ]


def test_a_point_that_is_released_before_its_time_holds_nobody(holding: Holding) -> None:
    holding.arm(ArmedPoint("never", SYSCORE))
    holding.release("never")
    holding.release("never")
    holding.run(LOAD)
    assert "never" not in {event.name for event in holding.events()}


def test_what_cannot_be_held_at_is_not_exercised(holding: Holding) -> None:
    with pytest.raises(NotExercised, match="there is no function no_such_function"):
        holding.arm(ArmedPoint("nowhere", "no_such_function"))
    with pytest.raises(NotExercised, match="cannot fetch"):
        holding.arm(ArmedPoint("nested", SYSCORE, when=(("+0(+8(%di)):u32", 1),)))
    with pytest.raises(NotExercised, match="'many' is no number"):
        holding.arm(ArmedPoint("word", SYSCORE, when=(("$arg1:u32", "many"),)))
    holding.arm(ArmedPoint("in-module", "no_such_function", "kvm"))
    assert holding.holder.held("in-module") is None
    holding.run(LOAD)
    with pytest.raises(NotExercised, match="there is no function no_such_function"):
        holding.holder.held("in-module")


def test_a_reset_takes_a_task_that_is_held(holding: Holding) -> None:
    holding.arm(ArmedPoint("at-reset", SYSCORE))
    holding.start(f"taskset -c 1 {LOAD}")
    holding.held("at-reset")
    machine = holding.guest.machine
    machine.expect(State.RESET)
    begin = time.monotonic()
    holding.start("reboot -f")
    machine.wait_reset(guests.deadline(60))
    assert holding.holder.held("at-reset") is not None  # the CPUs are still as the reset found them
    print(f"reset {time.monotonic() - begin:.1f} s after reboot -f")
    machine.continue_boot(guests.deadline())
    holding.bell.wait_for(lambda: holding.holder.lost() or None, guests.deadline())
    assert holding.holder.lost() == ("at-reset",) and holding.holder.held("at-reset") is None
    machine.wait_ready(guests.deadline())
    assert holding.marks("at-reset")[:2] == [("at-reset", "held"), ("at-reset", "lost")]
