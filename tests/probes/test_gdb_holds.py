"""Holds by QEMU's gdbstub, in a real kernel: of a module's load and others; the CPU goes on, or stands still too."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.errors import HostFault, NotExercised
from harness.guest.ssh import Background
from harness.machine import toolchain
from harness.machine.argv import MachineSpec
from harness.machine.state import State
from harness.platform.link import EVENTS
from harness.probes.functions import FunctionProbes
from harness.probes.gdb_holds import HOLDS_LOG, GdbHolder
from harness.probes.kallsyms import symbol_table
from harness.probes.platform_log import parse_platform
from harness.probes.points import ArmedPoint, Held
from harness.probes.tracefs import KernelProbe
from tests import guests

pytestmark = pytest.mark.boot

CMDLINE = "preempt=full irqaffinity=0"
LOAD, UNLOAD = "modprobe kvm_amd", "rmmod kvm_amd kvm"
SYSCORE = "register_syscore_ops"  # called once by each load of kvm_amd, at its end
MKDIR = "do_mkdirat"  # once by each mkdir, and by nobody else in a guest that is up
QUIET_S = 0.5  # for what must not happen; what is not held is done in less


@dataclass
class Holding:
    """A guest, and what can hold its tasks."""

    guest: guests.Guest
    holder: GdbHolder
    armed: list[str] = field(default_factory=list)
    lines: int = 0  # of the log, before this test

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

    def marks(self) -> list[tuple[str, str]]:
        """What became of the points of this test."""
        trace = parse_platform(self.log(), {})
        assert not trace.lost
        return [(event.name, event.phase) for event in trace.events]

    def log(self) -> list[str]:
        return (self.guest.machine.run / HOLDS_LOG).read_text().splitlines()[self.lines :]


def _booted(folder: Path) -> Holding:
    guest = guests.make(folder, MachineSpec(cpus=2, cmdline=CMDLINE))
    symbols = symbol_table(guests.kernel(), toolchain.find(guests.deadline(600)))
    guest.boot()
    return Holding(guest, GdbHolder(guest.machine, guests.kernel(), symbols, guests.deadline()))


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holding]:
    holding = _booted(tmp_path_factory.mktemp("gdb"))
    yield holding
    holding.holder.close()
    holding.guest.machine.close()


@pytest.fixture
def holding(booted: Holding) -> Iterator[Holding]:
    """The shared guest, without KVM and with nobody held."""
    if not booted.guest.answers:
        booted.guest.boot()
    yield Holding(booted.guest, booted.holder, booted.armed, len(booted.log()))
    for name in booted.armed:
        booted.release(name)
    booted.armed.clear()
    if booted.guest.answers:
        booted.run(f"while pidof modprobe; do sleep 0.05; done; {UNLOAD} 2>&1; rm -rf /tmp/dir*; true")


def test_the_guest_goes_on_while_a_load_is_held(holding: Holding) -> None:
    holding.arm(ArmedPoint("in-load", SYSCORE))
    load = holding.start(f"taskset -c 1 {LOAD}")
    held = holding.held("in-load")
    assert (held.point, held.cpu, held.task) == ("in-load", 1, "modprobe") and held.preemptible
    assert holding.guest.machine.state is State.RUNNING
    assert holding.run("taskset -c 0 cat /proc/modules").split()[0] == "kvm_amd"
    assert holding.run("taskset -c 1 echo gone by") == "gone by\n"  # the kernel takes the CPU from the task
    assert load.poll(guests.deadline()) is None
    holding.release("in-load")
    assert load.wait(guests.deadline()).status == 0
    assert holding.holder.held("in-load") is None
    assert holding.marks() == [("in-load", "held"), ("in-load", "released")]


def test_held_and_released_come_before_the_function_s_own_events(holding: Holding) -> None:
    tracing = "cd /sys/kernel/tracing"
    holding.run(f"{tracing}; echo counter > trace_clock; echo 'p:at {SYSCORE}' > kprobe_events")
    holding.run(f"{tracing}; echo 1 > events/kprobes/enable; echo before > trace_marker")
    holding.arm(ArmedPoint("in-load", SYSCORE))
    load = holding.start(LOAD)
    holding.held("in-load")
    holding.run("echo meanwhile > /sys/kernel/tracing/trace_marker")
    holding.release("in-load")
    assert load.wait(guests.deadline()).status == 0
    trace = holding.run(f"{tracing}; cat trace; echo 0 > events/kprobes/enable; echo > kprobe_events")
    clock = {
        name: int(at) for at, name in re.findall(r" (\d+): (?:tracing_mark_write: )?(before|meanwhile|at):?", trace)
    }
    held, released = (json.loads(line)["counter"] for line in holding.log())
    assert clock["before"] <= held < clock["meanwhile"] <= released < clock["at"]


def test_the_function_is_entered_as_if_nothing_had_been(holding: Holding) -> None:
    """With ftrace in it, and in mode busy."""
    holding.run("cd /sys/kernel/tracing; echo do_mkdirat > set_ftrace_filter; echo function > current_tracer")
    holding.arm(ArmedPoint("mkdir", MKDIR, mode="busy"))
    mkdir = holding.start("mkdir /tmp/dir")
    holding.held("mkdir")
    holding.release("mkdir")
    assert mkdir.wait(guests.deadline()).status == 0
    trace = holding.run(
        "cd /sys/kernel/tracing; cat trace; echo nop > current_tracer; echo > set_ftrace_filter; ls -d /tmp/dir"
    )
    assert trace.count(MKDIR) == 1


def test_a_machine_pauses_and_goes_on_with_a_task_held(holding: Holding) -> None:
    machine = holding.guest.machine
    holding.arm(ArmedPoint("in-load", SYSCORE))
    load = holding.start(LOAD)
    holding.held("in-load")
    machine.pause(guests.deadline())
    assert machine.check() is State.STOPPED
    assert machine.qmp.execute("query-status", guests.deadline())["running"] is False
    machine.resume(guests.deadline())
    assert holding.run("echo alive") == "alive\n"
    machine.pause(guests.deadline())
    holding.release("in-load")  # which does not resume it
    assert machine.qmp.execute("query-status", guests.deadline())["running"] is False
    machine.resume(guests.deadline())
    assert load.wait(guests.deadline()).status == 0


def test_a_hard_hold_stops_the_cpu_and_no_other(holding: Holding) -> None:
    holding.arm(ArmedPoint("in-load", SYSCORE, mode="hard"))
    load = holding.start(f"taskset -c 1 {LOAD}")
    assert holding.held("in-load").cpu == 1
    other = holding.start("taskset -c 1 echo gone by")
    assert holding.run("taskset -c 0 echo alive") == "alive\n"
    time.sleep(QUIET_S)
    assert load.poll(guests.deadline()) is None and other.poll(guests.deadline()) is None
    holding.release("in-load")
    assert load.wait(guests.deadline()).status == 0 and other.wait(guests.deadline()).status == 0


def test_a_soft_hold_and_a_hard_one_beside_each_other(holding: Holding) -> None:
    holding.arm(ArmedPoint("soft", MKDIR, cpu=0))
    holding.arm(ArmedPoint("hard", MKDIR, cpu=1, mode="hard"))
    soft = holding.start("taskset -c 0 mkdir /tmp/dir-0")
    holding.held("soft")
    hard = holding.start("taskset -c 1 mkdir /tmp/dir-1")
    holding.held("hard")
    holding.release("soft")
    assert soft.wait(guests.deadline()).status == 0
    assert hard.poll(guests.deadline()) is None
    holding.release("hard")
    assert hard.wait(guests.deadline()).status == 0


def test_a_place_without_interrupts_is_told(holding: Holding) -> None:
    # Started first: a CPU that waits for the answer to its IPI does nothing else, such as SSH.
    ipi = holding.start("sleep 1; taskset -c 1 true; taskset -c 0 cat /proc/cpuinfo > /dev/null")
    holding.arm(ArmedPoint("in-ipi", "__flush_smp_call_function_queue", cpu=1, mode="busy"))
    held = holding.held("in-ipi")
    assert not held.interrupts and not held.preemptible
    holding.release("in-ipi")
    assert ipi.wait(guests.deadline()).status == 0


def test_a_point_in_a_module_that_comes_later_holds_at_the_wanted_hit(holding: Holding) -> None:
    holding.arm(ArmedPoint("third", "kvm_online_cpu", "kvm", hit=3))  # two CPUs each time
    holding.run(LOAD)
    holding.run(UNLOAD)
    assert holding.holder.held("third") is None
    load = holding.start(LOAD)
    assert holding.held("third").task == "cpuhp/0"
    holding.release("third")
    assert load.wait(guests.deadline()).status == 0


def test_an_offline_waits_for_its_callback_that_is_held(holding: Holding) -> None:
    holding.run(LOAD)  # the module's functions are known all the same
    holding.arm(ArmedPoint("in-offline", "kvm_offline_cpu", "kvm", task="cpuhp/1", cpu=1))
    offline = holding.start("echo 0 > /sys/devices/system/cpu/cpu1/online")
    assert holding.held("in-offline").task == "cpuhp/1"
    assert holding.run("cat /sys/devices/system/cpu/online") == "0-1\n"
    assert offline.poll(guests.deadline()) is None
    holding.release("in-offline")
    assert offline.wait(guests.deadline()).status == 0
    assert holding.run("cat /sys/devices/system/cpu/online; echo 1 > /sys/devices/system/cpu/cpu1/online") == "0\n"


def test_only_the_actor_s_descendants_are_held(holding: Holding) -> None:
    actor = holding.start("rm -f /tmp/go; echo $$; while [ ! -e /tmp/go ]; do sleep 0.05; done; mkdir /tmp/dir; true")
    pid = holding.guest.machine.watch(lambda: int(actor.stdout) if actor.stdout else None, guests.deadline())
    holding.arm(ArmedPoint("mine", MKDIR, pid=pid))
    holding.run("mkdir /tmp/dir-1 /tmp/dir-2")
    assert holding.holder.held("mine") is None
    holding.run("touch /tmp/go")
    assert holding.held("mine").pid >= pid
    holding.release("mine")
    assert actor.wait(guests.deadline()).status == 0


def test_an_argument_decides_and_the_hold_is_after_the_return(holding: Holding) -> None:
    holding.arm(ArmedPoint("other", "chmod_common", phase="return", when=(("$arg2:u16", 0o700),)))
    holding.arm(ArmedPoint("made", "chmod_common", phase="return", when=(("$arg2:u16", 0o711),)))
    chmod = holding.start("mkdir /tmp/dir && chmod 500 /tmp/dir && chmod 711 /tmp/dir && chmod 755 /tmp/dir")
    assert holding.held("made").preemptible
    assert holding.run("stat -c %a /tmp/dir") == "711\n"
    assert holding.holder.held("other") is None
    holding.release("made")
    assert chmod.wait(guests.deadline()).status == 0


def test_two_points_at_one_place_hold_until_both_are_released(holding: Holding) -> None:
    for name, hit in (("one", 1), ("two", 1), ("next", 2)):
        holding.arm(ArmedPoint(name, MKDIR, hit=hit))
    mkdir = holding.start("mkdir /tmp/dir-1; mkdir /tmp/dir-2")
    holding.held("one")
    holding.held("two")
    holding.release("one")
    assert holding.run("ls /tmp | grep -c dir; true") == "0\n"
    holding.release("two")
    holding.held("next")  # the visit that was held was the first: it is not the second when it goes on
    assert holding.run("ls -d /tmp/dir*") == "/tmp/dir-1\n"
    holding.release("next")
    assert mkdir.wait(guests.deadline()).status == 0
    assert [name for name, phase in holding.marks() if phase == "held"] == ["one", "two", "next"]


def test_every_visit_is_counted_when_both_cpus_come_at_once(holding: Holding) -> None:
    holding.arm(ArmedPoint("fortieth", MKDIR, hit=40))
    holding.arm(ArmedPoint("forty-first", MKDIR, hit=41))
    loops = [
        holding.start(f"taskset -c {cpu} sh -c 'for i in `seq 20`; do mkdir /tmp/dir-{cpu}-$i; done'")
        for cpu in (0, 1)
    ]
    holding.held("fortieth")
    holding.release("fortieth")
    assert all(loop.wait(guests.deadline()).status == 0 for loop in loops)
    assert holding.holder.held("forty-first") is None


def test_a_point_that_is_released_before_its_time_holds_nobody(holding: Holding) -> None:
    holding.arm(ArmedPoint("never", MKDIR))
    holding.release("never")
    holding.release("never")
    holding.run("mkdir /tmp/dir")
    assert holding.marks() == []


def test_what_cannot_be_held_at_is_not_exercised(holding: Holding) -> None:
    with pytest.raises(NotExercised, match="there is no function no_such_function"):
        holding.arm(ArmedPoint("nowhere", "no_such_function"))
    with pytest.raises(NotExercised, match="cannot look at"):
        holding.arm(ArmedPoint("nested", SYSCORE, when=(("+0(+8(%di)):u32", 1),)))
    holding.arm(ArmedPoint("in-module", "no_such_function", "kvm"))
    assert holding.holder.held("in-module") is None
    holding.run(LOAD)
    with pytest.raises(NotExercised, match="there is no function no_such_function"):
        holding.holder.held("in-module")


def test_a_reset_takes_a_task_that_is_held_and_points_outlive_it(holding: Holding) -> None:
    machine = holding.guest.machine
    holding.arm(ArmedPoint("in-load", SYSCORE))
    holding.arm(ArmedPoint("later", "chmod_common", when=(("$arg2:u16", 0o711),)))
    holding.arm(ArmedPoint("old-actor", "chmod_common", pid=1))  # all are descendants of init, in every boot
    holding.start(f"taskset -c 1 {LOAD}")
    holding.held("in-load")
    machine.expect(State.RESET)
    holding.start("taskset -c 0 reboot -f")
    machine.wait_reset(guests.deadline(60))
    machine.watch(lambda: holding.holder.lost() or None, guests.deadline())
    assert holding.holder.lost() == ("in-load",) and holding.holder.held("in-load") is None
    assert machine.qmp.execute("query-status", guests.deadline())["status"] == "shutdown"
    machine.continue_boot(guests.deadline())
    machine.wait_ready(guests.deadline())
    holding.guest.shell.connect(guests.deadline())
    chmod = holding.start("mkdir /tmp/dir && chmod 711 /tmp/dir")
    assert holding.held("later").task == "chmod"
    assert holding.holder.held("old-actor") is None
    holding.release("later")
    assert chmod.wait(guests.deadline()).status == 0
    assert holding.marks() == [("in-load", "held"), ("in-load", "lost"), ("later", "held"), ("later", "released")]


def test_the_guest_outlives_the_holder(tmp_path: Path) -> None:
    holding = _booted(tmp_path)
    with holding.guest.machine as machine:
        holding.arm(ArmedPoint("in-load", SYSCORE))
        load = holding.start(LOAD)
        holding.held("in-load")
        holding.holder.close()
        holding.holder.close()
        assert load.wait(guests.deadline()).status == 0
        machine.pause(guests.deadline())
        machine.resume(guests.deadline())
        assert holding.run("echo alive") == "alive\n"


def test_a_hard_hold_is_lost_to_a_reset_from_outside_and_the_holder_ends_with_qemu(holding: Holding) -> None:
    """One test, for the machine is good for nothing after either."""
    machine = holding.guest.machine
    holding.arm(ArmedPoint("in-load", SYSCORE, mode="hard"))
    holding.start(f"taskset -c 1 {LOAD}")
    holding.held("in-load")
    machine.qmp.execute("system_reset", guests.deadline())  # QEMU takes its own for a shutdown, and stands still
    machine.watch(lambda: holding.holder.lost() or None, guests.deadline())
    assert holding.holder.lost() == ("in-load",) and holding.holder.held("in-load") is None
    machine.expect(State.GONE)
    machine.qmp.execute("quit", guests.deadline())
    machine.watch(lambda: machine.state is State.GONE or None, guests.deadline())
    with pytest.raises(HostFault, match="gdbstub"):
        holding.arm(ArmedPoint("gone", MKDIR))
    holding.armed.clear()


def test_the_gdbstub_and_the_plugin_agree_on_the_order(tmp_path: Path) -> None:
    guest = guests.make(tmp_path, MachineSpec(cpus=2, cmdline=CMDLINE), "tcg-vmx")
    platform = guest.machine.platform
    assert platform is not None
    symbols = symbol_table(guests.kernel(), toolchain.find(guests.deadline(600)))
    functions = FunctionProbes.on(platform, guests.kernel(), symbols, [KernelProbe(SYSCORE, SYSCORE)])
    with guest.machine:
        guest.boot()
        holding = Holding(guest, GdbHolder(guest.machine, guests.kernel(), symbols, guests.deadline()))
        for mode in ("soft", "hard"):
            before = len((tmp_path / EVENTS).read_text().splitlines())
            holding.arm(ArmedPoint(mode, SYSCORE, mode=mode))
            load = holding.start("taskset -c 1 modprobe kvm_intel")
            holding.held(mode)
            assert holding.run("taskset -c 0 echo alive") == "alive\n"
            since = (tmp_path / EVENTS).read_text().splitlines()[before:]
            assert SYSCORE not in "".join(since)
            holding.release(mode)
            assert load.wait(guests.deadline()).status == 0
            trace = parse_platform((tmp_path / EVENTS).read_text().splitlines()[before:], functions.fetches)
            assert [event.phase for event in trace.events if event.name == SYSCORE] == ["call", "return"]
            holding.run("rmmod kvm_intel kvm")
        holding.holder.close()
