"""What every holder does, in a real kernel: the same tests for the plugin and for the gdbstub."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.errors import NotExercised
from harness.machine.state import State
from harness.probes.points import ArmedPoint
from tests import guests
from tests.probes.holding import CHMOD, MKDIR, SYSCORE, Holding, holding_at

pytestmark = pytest.mark.boot


@pytest.fixture(params=["plugin", "gdbstub"])
def holding(request: pytest.FixtureRequest) -> Iterator[Holding]:
    with holding_at(request.getfixturevalue(request.param)) as holding:
        yield holding


def test_the_guest_goes_on_while_a_load_is_held(holding: Holding) -> None:
    holding.arm(ArmedPoint("in-load", SYSCORE))
    load = holding.start(f"taskset -c 1 {holding.load}")
    held = holding.held("in-load")
    assert (held.point, held.cpu, held.task) == ("in-load", 1, "modprobe") and held.preemptible
    assert holding.guest.machine.state is State.RUNNING
    assert holding.run("taskset -c 0 cat /proc/modules").split()[0] == holding.stand.module
    assert holding.run("taskset -c 1 echo gone by") == "gone by\n"  # the kernel takes the CPU from the task
    assert load.poll(guests.deadline()) is None
    holding.release("in-load")
    assert load.wait(guests.deadline()).status == 0
    assert holding.holder.held("in-load") is None
    assert holding.marks() == [("in-load", "held"), ("in-load", "released")]


def test_a_machine_pauses_and_goes_on_with_a_task_held(holding: Holding) -> None:
    machine = holding.guest.machine
    holding.arm(ArmedPoint("in-load", SYSCORE))
    load = holding.start(holding.load)
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


def test_a_held_task_is_moved_when_its_cpu_goes_offline(holding: Holding) -> None:
    """It cannot have been known by its CPU then."""
    holding.arm(ArmedPoint("in-load", SYSCORE))
    load = holding.start(f"taskset -c 1 {holding.load}")
    assert holding.held("in-load").cpu == 1
    holding.run("echo 0 > /sys/devices/system/cpu/cpu1/online")
    assert load.poll(guests.deadline()) is None
    holding.release("in-load")
    assert load.wait(guests.deadline()).status == 0
    holding.run("echo 1 > /sys/devices/system/cpu/cpu1/online")
    released = next(event for event in holding.events()[::-1] if event.phase == "released")
    assert (released.cpu, released.task) == (0, "modprobe")


def test_an_offline_waits_for_its_callback_that_is_held(holding: Holding) -> None:
    holding.run(holding.load)  # the module's functions are known all the same
    holding.arm(ArmedPoint("in-offline", "kvm_offline_cpu", "kvm", task="cpuhp/1", cpu=1))
    offline = holding.start("echo 0 > /sys/devices/system/cpu/cpu1/online")
    assert holding.held("in-offline").task == "cpuhp/1"
    assert holding.run("cat /sys/devices/system/cpu/online") == "0-1\n"
    assert offline.poll(guests.deadline()) is None
    holding.release("in-offline")
    assert offline.wait(guests.deadline()).status == 0
    assert holding.run("cat /sys/devices/system/cpu/online; echo 1 > /sys/devices/system/cpu/cpu1/online") == "0\n"


def test_a_point_in_a_module_that_comes_later_holds_at_the_wanted_hit(holding: Holding) -> None:
    holding.arm(ArmedPoint("third", "kvm_online_cpu", "kvm", hit=3))  # two CPUs each time
    holding.run(holding.load)
    holding.run(holding.unload)
    assert holding.holder.held("third") is None
    load = holding.start(holding.load)
    assert holding.held("third").task == "cpuhp/0"
    holding.release("third")
    assert load.wait(guests.deadline()).status == 0


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
    holding.arm(ArmedPoint("other", CHMOD, phase="return", when=(("$arg2:u16", 0o700),)))
    holding.arm(ArmedPoint("made", CHMOD, phase="return", when=(("$arg2:u16", 0o711),)))
    chmod = holding.start("mkdir /tmp/dir && chmod 500 /tmp/dir && chmod 711 /tmp/dir && chmod 755 /tmp/dir")
    assert holding.held("made").preemptible
    assert holding.run("stat -c %a /tmp/dir") == "711\n"
    assert holding.holder.held("other") is None
    holding.release("made")
    assert chmod.wait(guests.deadline()).status == 0


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

    def ended_or_held() -> bool | None:
        ended = all(loop.poll(guests.deadline()) is not None for loop in loops)
        return True if ended or holding.holder.held("forty-first") else None

    holding.guest.machine.watch(ended_or_held, guests.deadline())
    assert holding.holder.held("forty-first") is None
    assert all(loop.wait(guests.deadline()).status == 0 for loop in loops)


def test_a_point_that_is_released_before_its_time_holds_nobody(holding: Holding) -> None:
    holding.arm(ArmedPoint("never", MKDIR))
    holding.release("never")
    holding.release("never")
    holding.run("mkdir /tmp/dir")
    assert holding.marks() == []


def test_what_cannot_be_held_at_is_not_exercised(holding: Holding) -> None:
    with pytest.raises(NotExercised, match="there is no function no_such_function"):
        holding.arm(ArmedPoint("nowhere", "no_such_function"))
    with pytest.raises(NotExercised, match=r"cannot (look at|fetch) "):
        holding.arm(ArmedPoint("nested", SYSCORE, when=(("+0(+8(%di)):u32", 1),)))
    holding.arm(ArmedPoint("in-module", "no_such_function", "kvm"))
    assert holding.holder.held("in-module") is None
    holding.run(holding.load)
    with pytest.raises(NotExercised, match="there is no function no_such_function"):
        holding.holder.held("in-module")


def test_a_reset_takes_a_task_that_is_held_and_points_outlive_it(holding: Holding) -> None:
    machine = holding.guest.machine
    holding.arm(ArmedPoint("in-load", SYSCORE))
    holding.arm(ArmedPoint("later", CHMOD, when=(("$arg2:u16", 0o711),)))
    holding.arm(ArmedPoint("old-actor", CHMOD, pid=1))  # all are descendants of init, in every boot
    holding.start(f"taskset -c 1 {holding.load}")
    holding.held("in-load")
    machine.expect(State.RESET)
    holding.start("taskset -c 0 reboot -f")
    machine.wait_reset(guests.deadline(60))
    assert machine.qmp.execute("query-status", guests.deadline())["status"] == "shutdown"
    if holding.holder.name == "plugin":  # it watches the CPUs, which are still as the reset found them
        assert holding.holder.held("in-load") is not None
    machine.continue_boot(guests.deadline())
    machine.watch(lambda: holding.holder.lost() or None, guests.deadline())
    assert holding.holder.lost() == ("in-load",) and holding.holder.held("in-load") is None
    machine.wait_ready(guests.deadline())
    holding.guest.shell.connect(guests.deadline())
    chmod = holding.start("mkdir /tmp/dir && chmod 711 /tmp/dir")
    assert holding.held("later").task == "chmod"
    assert holding.holder.held("old-actor") is None
    holding.release("later")
    assert chmod.wait(guests.deadline()).status == 0
    assert holding.marks() == [("in-load", "held"), ("in-load", "lost"), ("later", "held"), ("later", "released")]
