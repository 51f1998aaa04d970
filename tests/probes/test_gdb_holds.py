"""Holds by QEMU's gdbstub, in a real kernel: what it alone can, and how it ends. The rest: test_every_holder.py."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator

import pytest

from harness.deadline import Deadline
from harness.errors import HostFault
from harness.machine.state import State
from harness.probes.gdb_remote import SIGINT, SIGTRAP, GdbRemote, Stop
from harness.probes.points import ArmedPoint
from harness.scenario.kinds import HoldMode
from tests import guests
from tests.probes.holding import CHMOD, MKDIR, SYSCORE, Holding, Stand, gdb_holder, holding_at

pytestmark = pytest.mark.boot

QUIET_S = 0.5  # for what must not happen; what is not held is done in less


@pytest.fixture
def holding(gdbstub: Stand) -> Iterator[Holding]:
    with holding_at(gdbstub) as holding:
        yield holding


@pytest.fixture(scope="module")
def debugged(plugin: Stand) -> Iterator[Stand]:
    """The guest that has the plugin, with a debugger: a machine has one in its life."""
    holder = gdb_holder(plugin.guest)
    yield dataclasses.replace(plugin, holder=lambda: holder)
    holder.close()


def test_held_and_released_come_before_the_function_s_own_events(holding: Holding) -> None:
    tracing = "cd /sys/kernel/tracing"
    holding.run(f"{tracing}; echo counter > trace_clock; echo 'p:at {SYSCORE}' > kprobe_events")
    holding.run(f"{tracing}; echo 1 > events/kprobes/enable; echo before > trace_marker")
    holding.arm(ArmedPoint("in-load", SYSCORE))
    load = holding.start(holding.load)
    holding.held("in-load")
    holding.run("echo meanwhile > /sys/kernel/tracing/trace_marker")
    holding.release("in-load")
    assert load.wait(guests.deadline()).status == 0
    trace = holding.run(f"{tracing}; cat trace; echo 0 > events/kprobes/enable; echo > kprobe_events")
    clock = {
        name: int(at) for at, name in re.findall(r" (\d+): (?:tracing_mark_write: )?(before|meanwhile|at):?", trace)
    }
    held, released = (json.loads(line)["counter"] for line in holding.lines())
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


def test_a_hard_hold_stops_the_cpu_and_no_other(holding: Holding) -> None:
    holding.arm(ArmedPoint("in-load", SYSCORE, mode="hard"))
    load = holding.start(f"taskset -c 1 {holding.load}")
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


def test_a_step_that_qemu_has_not_begun_is_taken_again(holding: Holding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two CPUs at a breakpoint at once bring it about, once in some thousand visits: it would be a visit too many."""
    step, asked = GdbRemote.step, []

    def sometimes(remote: GdbRemote, cpu: int, deadline: Deadline) -> Stop:
        asked.append(cpu)
        return step(remote, cpu, deadline) if len(asked) % 2 == 0 else Stop(SIGTRAP, cpu)

    monkeypatch.setattr(GdbRemote, "step", sometimes)
    holding.arm(ArmedPoint("third", MKDIR, hit=3))
    holding.run("mkdir /tmp/dir-1; mkdir /tmp/dir-2")
    assert holding.holder.held("third") is None and len(asked) == 4
    third = holding.start("mkdir /tmp/dir-3")
    holding.held("third")
    holding.release("third")
    assert third.wait(guests.deadline()).status == 0


def test_a_cpu_that_stands_still_comes_nowhere(holding: Holding, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same cause its stop is told twice."""
    holding.arm(ArmedPoint("first", MKDIR, mode="hard"))
    holding.arm(ArmedPoint("second", MKDIR, hit=2))
    mkdir = holding.start("taskset -c 1 mkdir /tmp/dir")
    holding.held("first")
    stopped, told = GdbRemote.stopped, []

    def once_more(remote: GdbRemote, deadline: Deadline) -> Stop:
        stop = stopped(remote, deadline)
        told.append(stop)
        return Stop(SIGTRAP, 1) if stop.signal == SIGINT else stop

    monkeypatch.setattr(GdbRemote, "stopped", once_more)
    holding.arm(ArmedPoint("other", CHMOD))
    monkeypatch.undo()
    assert len(told) == 1 and holding.holder.held("second") is None
    holding.release("first")
    assert mkdir.wait(guests.deadline()).status == 0


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_the_gdbstub_and_the_plugin_agree_on_the_order(debugged: Stand, mode: HoldMode) -> None:
    with holding_at(debugged) as holding:
        holding.arm(ArmedPoint("in-load", SYSCORE, mode=mode))
        load = holding.start(f"taskset -c 1 {holding.load}")
        holding.held("in-load")
        assert holding.run("taskset -c 0 echo alive") == "alive\n"
        assert SYSCORE not in "".join(holding.lines())
        holding.release("in-load")
        assert load.wait(guests.deadline()).status == 0
        assert [event.phase for event in holding.events() if event.name == SYSCORE] == ["call", "return"]


def test_the_guest_outlives_the_holder(debugged: Stand) -> None:
    """After the tests that need it."""
    with holding_at(debugged) as holding:
        holding.arm(ArmedPoint("in-load", SYSCORE))
        load = holding.start(holding.load)
        holding.held("in-load")
        holding.holder.close()
        holding.holder.close()
        holding.armed.clear()
        assert load.wait(guests.deadline()).status == 0
        holding.guest.machine.pause(guests.deadline())
        holding.guest.machine.resume(guests.deadline())
        assert holding.run("echo alive") == "alive\n"


def test_a_hard_hold_is_lost_to_a_reset_from_outside_and_the_holder_ends_with_qemu(holding: Holding) -> None:
    """One test, for the machine is good for nothing after either."""
    machine = holding.guest.machine
    holding.arm(ArmedPoint("in-load", SYSCORE, mode="hard"))
    holding.start(f"taskset -c 1 {holding.load}")
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
