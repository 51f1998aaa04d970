"""The tracer's script and the parser of its stream, on lines that Debian's kernels printed."""

from __future__ import annotations

from pathlib import Path

from harness.probes.event import Event
from harness.probes.tracefs import (
    STANDARD_TRACEPOINTS,
    KernelProbe,
    arm_script,
    mark,
    parse_lost,
    parse_trace,
    prepare_script,
)
from harness.scenario.kinds import Selector

# From debian:6.12 (loading kvm_amd, clock `counter`), in the order in which trace_pipe gave them.
STREAM = (Path(__file__).parent / "stream-6.12.txt").read_text().splitlines()


def by_name(name: str, events: list[Event]) -> list[Event]:
    return [event for event in events if event.name == name]


def test_events_have_cpu_task_arguments_and_return_values() -> None:
    trace = parse_trace(STREAM)
    assert (trace.garbled, trace.lost) == (0, {})
    call, back, other_call, other_back = by_name("kvm_online_cpu", trace.events)
    assert (call.seq, call.cpu, call.task, call.pid, call.phase, call.args) == (
        24,
        0,
        "cpuhp/0",
        23,
        "call",
        {"target": "0"},
    )
    assert (back.phase, back.errno_return) == ("return", 0)
    assert (other_call.seq, other_back.errno_return) == (28, -5)
    assert by_name("register_syscore", trace.events)[0].task == "Web Content-2"
    assert by_name("register_syscore", trace.events)[1].ret is None


def test_events_come_in_the_order_of_the_counter() -> None:
    assert [event.seq for event in parse_trace(STREAM).events] == sorted(
        event.seq or 0 for event in parse_trace(STREAM).events
    )


def test_marks_become_begin_and_end_of_a_step() -> None:
    assert [event.phase for event in by_name("load", parse_trace(STREAM).events)] == ["begin", "end"]


def test_cpuhp_exit_gets_the_function_of_its_enter() -> None:
    (leave,) = by_name("cpuhp_exit", parse_trace(STREAM).events)
    assert leave.matches(Selector.parse("cpuhp_exit[function=kvm_online_cpu, ret=0]@0"))


def test_lost_events_are_counted_per_boot() -> None:
    second = ["sh-1 [000] 3: tracing_mark_write: harness:boot:2", "CPU:2 [LOST 17 EVENTS]"]
    assert parse_trace([*STREAM, *second]).lost == {2: 17}
    assert parse_lost("entries: 0\noverrun: 3\ncommit overrun: 0\ndropped events: 4\n") == 7


def test_lost_events_of_unknown_number_are_lost_too() -> None:
    assert parse_trace([*STREAM, "CPU:2 [LOST EVENTS]"]).lost == {1: 1}


def test_hits_that_a_probe_missed_are_lost() -> None:
    line = "  {:<44s} {:>15d} {:>15d}\n"
    assert parse_lost(line.format("kvm_online_cpu", 4, 0)) == 0
    assert parse_lost(line.format("kvm_online_cpu", 4, 0) + line.format("misc_register__return", 7, 2)) == 2


def test_a_garbled_line_is_a_lost_event_when_its_boot_went_on() -> None:
    garbled = "         cpuhp/3-36      [003]    "
    assert parse_trace([*STREAM[:-1], garbled, STREAM[-1]]).lost == {1: 1}
    assert parse_trace([*STREAM, garbled, "sh-1 [000] 3: tracing_mark_write: harness:boot:2"]).lost == {}


def test_a_line_cut_by_a_reset_is_garbled_and_no_event() -> None:
    trace = parse_trace([*STREAM, "         cpuhp/3-36      [003]    "])
    assert trace.garbled == 1
    assert len(trace.events) == len(parse_trace(STREAM).events)


def test_what_comes_before_the_first_boot_mark_is_ignored() -> None:
    assert parse_trace(["sh-1 [000] 2: kvm_online_cpu: (kvm_online_cpu+0x4/0x50 [kvm])"]).events == []


def test_script_arms_calls_and_returns_and_says_what_was_refused() -> None:
    probe = KernelProbe("kvm_shutdown", "kvm_shutdown", "kvm", fetch=(("state", "@system_state:u32"),))
    script = arm_script(2, [probe, KernelProbe("sched_switch", tracepoint="sched:sched_switch")])
    assert "'p:harness/kvm_shutdown kvm:kvm_shutdown state=@system_state:u32'" in script
    assert "'r:harness/kvm_shutdown__return kvm:kvm_shutdown ret=$retval:x64'" in script
    assert "events/sched/sched_switch/enable || echo refused sched_switch" in script
    assert mark("boot", "2") in script


def test_what_returns_nothing_has_no_value() -> None:
    assert "$retval" in arm_script(1, [KernelProbe("kvm_init", "kvm_init")])
    assert "$retval" not in arm_script(1, [KernelProbe("kvm_exit", "kvm_exit", void=True)])


def test_events_of_all_runs_are_enabled_before_any_run_arms_its_own() -> None:
    for tracepoint in STANDARD_TRACEPOINTS:
        folder = f"events/{tracepoint.replace(':', '/')}"
        assert f"{folder}/enable || echo refused {tracepoint}" in prepare_script()
        assert f"{folder}/enable" not in arm_script(1, [])
        assert f"{folder}/format" in arm_script(1, [])


def test_event_survives_json() -> None:
    for event in parse_trace(STREAM).events:
        assert Event.from_json(event.to_json()) == event
