"""What is left of the trace in the memory of a real guest at its reset."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HostFault
from harness.guest.boot import GuestPlan, fresh
from harness.guest.session import Session
from harness.kernels import BuildOptions, resolve
from harness.machine import toolchain
from harness.machine.argv import MachineSpec
from harness.machine.engine import by_name
from harness.machine.machine import Machine
from harness.machine.state import State
from harness.probes.addresses import SymbolTable
from harness.probes.event import Event
from harness.probes.kallsyms import symbol_table
from harness.probes.leftover import LeftoverReader
from harness.probes.tracefs import KernelProbe
from harness.probes.tracer import Tracer
from harness.run.events import EventLog
from tests.guests import deadline, kernel

# In the order of `reboot -f`; everything from `stopped` on happens with no other CPU alive.
PROBES = [
    KernelProbe("devices", "device_shutdown"),
    KernelProbe("syscore", "syscore_shutdown"),
    KernelProbe("restart", "native_machine_restart"),
    KernelProbe("stopped", "stop_this_cpu"),
    KernelProbe("emergency", "native_machine_emergency_restart"),
]

INSTANCE = "/sys/kernel/tracing/instances/boot_map"


@contextlib.contextmanager
def traced(folder: Path, spec: str = "debian:6.12", cmdline: str = "") -> Iterator[tuple[Session, Tracer]]:
    """A guest that is up, with PROBES armed."""
    patience = deadline(900, "the kernel and its symbols")
    booted, qemu = resolve(spec, BuildOptions(), patience), toolchain.find(patience)
    reader = LeftoverReader.of(booted, symbol_table(booted, qemu))
    plan = GuestPlan(booted, by_name("tcg-svm", ""), qemu, MachineSpec(cmdline=cmdline))
    with fresh(plan, folder, patience) as session:
        session.start(deadline())
        tracer = Tracer(PROBES, folder, leftover=lambda: reader)
        arm(session, tracer)
        yield session, tracer


def arm(session: Session, tracer: Tracer) -> None:
    session.enter(deadline())
    assert tracer.arm(session, deadline()) == {}


def reset(session: Session, tracer: Tracer) -> None:
    session.machine.expect(State.RESET)
    session.start_marked("reboot", "reboot -f", deadline())
    session.machine.wait_reset(deadline())
    tracer.take_leftover(session, deadline())


def calls(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.name, event.cpu) for event in events if event.phase == "call"]


@pytest.mark.boot
@pytest.mark.parametrize("spec", ["debian:6.1", "debian:6.12", "debian:7.3"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_boot_is_traced_to_its_reset(tmp_path: Path, spec: str, streaming: bool) -> None:
    with traced(tmp_path, spec) as (session, tracer):
        tracer.leave_the_rest(session, deadline(), streaming)
        reset(session, tracer)
    assert (tracer.complete, tracer.lost) == ({1}, {1: 0})
    events = tracer.parse().events
    assert len({(event.seq, event.cpu, event.name, event.phase) for event in events}) == len(events)
    ends = [name for name, _ in calls(events)]
    assert ends == ["devices", "syscore", "restart", "stopped", "stopped", "stopped", "emergency"]
    stopped = {cpu for name, cpu in calls(events) if name == "stopped"}
    (last,) = [cpu for name, cpu in calls(events) if name == "emergency"]
    assert stopped == {0, 1, 2, 3} - {last}
    streamed = (tmp_path / "trace.txt").read_text() + (tmp_path / "trace-last.txt").read_text()
    assert "emergency" not in streamed


@pytest.mark.boot
def test_what_the_ring_buffer_overwrote_is_lost(tmp_path: Path) -> None:
    with traced(tmp_path) as (session, tracer):
        tracer.leave_the_rest(session, deadline())
        session.run(
            "taskset -c 1 yes harness:begin:x | head -c 3000000 > /sys/kernel/tracing/trace_marker", deadline()
        )
        stats = session.run("grep overrun: /sys/kernel/tracing/per_cpu/cpu*/stats", deadline()).stdout
        reset(session, tracer)
    overwritten = sum(int(count) for count in re.findall(r"\Woverrun: (\d+)", stats))
    assert overwritten > 100
    # An event that CPU 1 could write only by overwriting a page of others may have come after.
    assert tracer.lost[1] >= overwritten
    assert calls(tracer.parse().events)[-1][0] == "emergency"


@pytest.mark.boot
def test_a_guest_that_runs_has_no_end_yet_and_one_that_is_stopped_shows_where_it_is(tmp_path: Path) -> None:
    with traced(tmp_path) as (session, tracer):
        tracer.take_leftover(session, deadline())
        assert not (tmp_path / "trace-leftover.txt").exists()
        tracer.leave_the_rest(session, deadline())
        session.mark("begin", "unheard", deadline())
        session.machine.pause(deadline())
        tracer.take_leftover(session, deadline())
    assert tracer.complete == set()
    assert [event.phase for event in tracer.parse().events if event.name == "unheard"] == ["begin"]


@pytest.fixture
def on_emulated_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest's machine takes itself for one; it is only faster."""
    monkeypatch.setattr(Machine, "emulator", "TCG")


@pytest.mark.boot
@pytest.mark.usefixtures("on_emulated_kvm")
def test_on_an_emulated_kvm_the_trace_from_a_suspend_on_is_read_out_of_memory(tmp_path: Path) -> None:
    with traced(tmp_path) as (session, tracer):
        log = EventLog(tmp_path, None)
        tracer.outlast_suspend(session, deadline())
        session.mark("begin", "early", deadline())
        tracer.look(session, deadline())
        before = log.position()
        session.mark("begin", "late", deadline())
        assert log.since(before, 1) == []
        tracer.look(session, deadline(), again=True)  # too soon
        assert log.since(before, 1) == []
        tracer.look(session, deadline())
        assert [event.name for event in log.since(before, 1) if event.phase == "begin"] == ["late"]
        assert session.machine.state is State.RUNNING
        tracer.finish(session, deadline())
        assert session.run("echo alive", deadline()).stdout == "alive\n"
        assert (tracer.complete, tracer.lost) == ({1}, {1: 0})
    told = [event.name for event in tracer.parse().events if event.phase == "begin"]
    assert told == ["early", "late"]
    assert (tmp_path / "trace-last.txt").read_text() == ""
    leftover = (tmp_path / "trace-leftover.txt").read_text().splitlines()
    assert len([line for line in leftover if line.endswith("harness:begin:early")]) == 1


@pytest.mark.boot
@pytest.mark.usefixtures("on_emulated_kvm")
def test_on_an_emulated_kvm_what_a_boot_loses_before_its_end_is_counted(tmp_path: Path) -> None:
    with traced(tmp_path) as (session, tracer):
        tracer.leave_the_rest(session, deadline(), streaming=True)
        session.run(
            "taskset -c 1 yes harness:begin:x | head -c 3000000 > /sys/kernel/tracing/trace_marker", deadline()
        )
        tracer.finish(session, deadline())
    assert tracer.complete == {1} and tracer.lost[1] > 100


@pytest.mark.boot
def test_the_kernels_own_persistent_buffer_has_the_same_events(tmp_path: Path) -> None:
    """A second witness, which 6.12 has: an instance in memory that it finds again after the reset.

    It prints events of kprobes as numbers then (Documentation/trace/debugging.rst).
    """
    with traced(tmp_path, cmdline="memmap=4M$0x10000000 trace_instance=boot_map@0x10000000:4M") as (session, tracer):
        begin = "echo 0 > tracing_on; echo > trace; echo 1 > events/harness/enable; echo 1 > tracing_on"
        assert session.run(f"cd {INSTANCE} && {begin}", deadline()).status == 0
        tracer.leave_the_rest(session, deadline())
        reset(session, tracer)
        session.shell.close()
        session.machine.continue_boot(deadline())
        session.enter(deadline())
        told = session.run(f"cat {INSTANCE}/trace", deadline()).stdout
    witnessed: dict[int, list[tuple[int, str]]] = defaultdict(list)
    formats = tracer._formats[1]
    for pid, cpu, kind in re.findall(r"-(\d+)\s+\[(\d+)\].* Unknown type (\d+)", told):
        witnessed[int(cpu)].append((int(pid), formats[int(kind)].name))
    read: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for event in tracer.parse().events:
        if event.name in {probe.name for probe in PROBES}:
            name = event.name + ("__return" if event.phase == "return" else "")
            read[event.cpu].append((event.pid, name))
    assert read == witnessed


def test_a_kernel_that_does_not_tell_its_symbols_has_no_reader() -> None:
    with pytest.raises(HostFault, match="global_trace"):
        LeftoverReader.of(kernel(), SymbolTable([]))


@pytest.mark.boot
def test_without_a_reader_a_reset_leaves_the_trace_open(tmp_path: Path) -> None:
    with traced(tmp_path) as (session, tracer):
        tracer.leftover = lambda: None
        tracer.leave_the_rest(session, deadline())
        reset(session, tracer)
    assert tracer.complete == set()
