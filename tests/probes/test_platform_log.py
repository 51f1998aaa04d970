"""The plugin's file, and how it is laid over the guest's own trace."""

from __future__ import annotations

import json
from typing import Any

from harness.probes.event import Event
from harness.probes.fetch import Fetch
from harness.probes.platform_log import merge, parse_platform, untold_losses
from harness.scenario.kinds import Selector


def lines(*objects: dict[str, Any]) -> list[str]:
    """Lines as the plugin writes them, with the usual values and consecutive numbers."""
    usual = {"boot": 1, "inc": 1, "counter": 0, "cpu": 0, "phase": "point", "args": {}}
    return [json.dumps({"seq": seq, **usual, **one}) for seq, one in enumerate(objects)]


def test_an_event_has_its_task_arguments_and_return_value() -> None:
    raw = {
        "name": "kvm_online_cpu",
        "phase": "return",
        "cpu": 2,
        "counter": 9,
        "task": "cpuhp/2",
        "pid": 25,
        "ret": -5,
    }
    (event,) = parse_platform(lines(raw), {}).events
    assert event == Event(1, 9, 2, "platform", "kvm_online_cpu", "return", "cpuhp/2", 25, {}, -5)


def test_a_function_that_returns_nothing_has_no_value() -> None:
    raw = {"name": "register_syscore", "phase": "return", "ret": -131391569968640}
    assert parse_platform(lines(raw), {}, {"register_syscore"}).events[0].ret is None
    assert parse_platform(lines(raw), {}, {"misc_register"}).events[0].ret == -131391569968640


def test_arguments_read_as_the_scenario_asked_for_them() -> None:
    raw = {"name": "f", "phase": "call", "args": {"target": "0xfffffffe", "other": "0x10"}}
    (event,) = parse_platform(lines(raw), {"f": {"target": Fetch("r:rdi:4", "s32")}}).events
    assert event.args == {"target": "-2", "other": "0x10"}


def test_seamcalls_have_names() -> None:
    done = {"name": "seamcall", "args": {"leaf": 33, "rcx": "0x0"}, "ret": 0}
    failed = {"name": "seamcall", "args": {"leaf": 0x23, "rcx": "0x0"}, "ret": -(1 << 63)}
    fault = {"name": "seamcall", "args": {"leaf": 69}, "fault": "UD"}
    loader = {"name": "seamcall", "args": {"leaf": -(1 << 63)}, "vmfail": "invalid"}
    first, second, third, fourth = parse_platform(lines(done, failed, fault, loader), {}).events
    assert first.matches(Selector.parse("seamcall[leaf=TDH.SYS.INIT,status=TDX_SUCCESS,rcx=0]"))
    assert second.args["leaf"] == "TDH.SYS.LP.INIT" and second.args["status"] != "TDX_SUCCESS"
    assert third.matches(Selector.parse("seamcall[leaf=TDH.SYS.DISABLE,fault=UD]"))
    assert "status" not in third.args
    assert fourth.matches(Selector.parse("seamcall[leaf=SEAMLDR.INFO,vmfail=invalid]"))


def test_firmware_and_crash_kernels_are_left_out() -> None:
    trace = parse_platform(
        lines(
            {"name": "wrmsr", "boot": 0, "inc": 0},
            {"name": "vmxon", "inc": 1},
            {"name": "vmxoff", "inc": 1},
            {"name": "vmxon", "inc": 2},  # of the crash kernel: the same boot, another start
            {"name": "vmxon", "boot": 2, "inc": 3},
        ),
        {},
    )
    assert [(event.boot, event.name) for event in trace.events] == [(1, "vmxon"), (1, "vmxoff"), (2, "vmxon")]
    assert trace.lost == {}


def test_who_was_held_at_the_machines_end_is_lost_after_everything_else() -> None:
    held = {"name": "p", "phase": "held", "counter": 5, "task": "guestctl", "pid": 7}
    last = {"name": "machine_restart", "phase": "call", "counter": 9}
    events = parse_platform(lines(held, last), {}).events
    whole = merge([*events, *untold_losses(events, {"p", "q"})])
    assert [(event.name, event.phase, event.seq) for event in whole] == [
        ("p", "held", 1), ("machine_restart", "call", 2), ("p", "lost", 3)
    ]  # fmt: skip
    assert untold_losses(events, ()) == [] == untold_losses(whole, {"p"})


def test_a_return_that_the_plugin_gave_up_is_lost() -> None:
    gave_up = {"name": "lost", "args": {"return_of": "f", "why": "too many return addresses"}}
    trace = parse_platform(lines({"name": "f", "phase": "call"}, gave_up, {"name": "vmxon"}, gave_up), {})
    assert [event.name for event in trace.events] == ["f", "vmxon"]
    assert trace.lost == {1: 2}


def test_what_is_missing_from_the_file_is_lost() -> None:
    whole = lines(*[{"name": "vmxon"}] * 5)
    assert parse_platform(whole, {}).lost == {}
    assert parse_platform([*whole[:2], *whole[4:]], {}).lost == {1: 2}
    assert parse_platform([*whole[:4], whole[4][:20]], {}).lost == {1: 1}


def tracefs(clock: int, name: str, boot: int = 1) -> Event:
    return Event(boot, clock, 0, "tracefs", name, "point")


def test_both_sources_make_one_order() -> None:
    platform = parse_platform(
        lines(
            {"name": "at-boot", "task": "swapper/0"},
            {"name": "after-1", "counter": 1},
            {"name": "after-1-too", "counter": 1},
            {"name": "after-3", "counter": 3},
            {"name": "unmapped", "counter": 0, "task": "sh"},
            {"name": "second-boot", "boot": 2, "inc": 2, "task": "swapper/0"},
        ),
        {},
    )
    trace = [tracefs(1, "one"), tracefs(2, "two"), tracefs(3, "three"), tracefs(1, "one", boot=2)]
    merged = merge(trace, platform.events)
    assert [(event.boot, event.seq, event.name) for event in merged] == [
        (1, 1, "at-boot"),
        (1, 2, "one"),
        (1, 3, "after-1"),
        (1, 4, "after-1-too"),
        (1, 5, "two"),
        (1, 6, "three"),
        (1, 7, "after-3"),
        (1, 8, "unmapped"),
        (2, 1, "second-boot"),
        (2, 2, "one"),
    ]


def test_an_event_without_a_clock_is_ordered_only_where_the_clock_stood_still() -> None:
    platform = parse_platform(
        lines(
            {"name": "sipi"},  # while CPUs come up, before the first that a task did
            {"name": "vmxoff", "counter": 2, "task": "cpuhp/1"},
            {"name": "sipi", "cpu": 1},  # when CPU 1 comes online again, whatever the tracer saw until then
            {"name": "vmxon", "counter": 5, "task": "cpuhp/1"},
            {"name": "sipi", "cpu": 2},
            {"name": "vmxon", "counter": 5, "task": "cpuhp/2"},
            {"name": "cpu_reset"},
        ),
        {},
    )
    assert [(event.name, event.seq) for event in platform.events] == [
        ("sipi", None),
        ("vmxoff", 2),
        ("sipi", None),
        ("vmxon", 5),
        ("sipi", 5),
        ("vmxon", 5),
        ("cpu_reset", None),
    ]
    merged = merge([tracefs(3, "offline-ends"), tracefs(4, "online-begins")], platform.events)
    assert [(event.name, event.seq) for event in merged if event.seq is None or event.source == "tracefs"] == [
        ("offline-ends", 2),
        ("online-begins", 3),
        ("sipi", None),
        ("sipi", None),
        ("cpu_reset", None),
    ]


def test_who_was_held_is_lost_at_the_end_of_the_boot() -> None:
    """That is told by the next kernel's first CPU, whose task and clock are its own."""
    held = {"name": "in-load", "phase": "held", "cpu": 2, "counter": 9, "task": "modprobe", "pid": 99}
    held["args"] = {"preempt_count": 0, "interrupts": 1}
    platform = parse_platform(
        lines(
            held,
            {"name": "cpu_reset"},
            {"name": "in-load", "phase": "lost", "task": "swapper/0", "counter": 0},
            {"name": "vmxon", "boot": 2, "inc": 2, "counter": 1},
        ),
        {},
    ).events
    assert platform[1].seq is None
    late = Event(1, 50, 0, "tracefs", "late", "call")
    merged = merge([late], platform)
    assert [(event.boot, event.name, event.phase, event.seq) for event in merged] == [
        (1, "in-load", "held", 1),
        (1, "late", "call", 2),
        (1, "in-load", "lost", 3),
        (2, "vmxon", "point", 1),
        (1, "cpu_reset", "point", None),
    ]
    lost = merged[2]
    assert (lost.cpu, lost.task, lost.pid, lost.args) == (2, "modprobe", 99, {"preempt_count": 0, "interrupts": 1})
    assert Selector.parse("in-load.lost[interrupts=1]@2").phase == "lost" and lost.matches(
        Selector.parse("in-load.lost[interrupts=1]@2")
    )


def test_another_source_in_the_same_format_is_merged_as_a_third() -> None:
    gdb = parse_platform(
        lines({"name": "p", "phase": "held", "counter": 4}, {"name": "p", "phase": "released", "counter": 6}),
        {},
        source="gdbstub",
    ).events
    assert {event.source for event in gdb} == {"gdbstub"}
    platform = parse_platform(
        lines({"name": "vmxon", "counter": 4}, {"name": "f", "phase": "call", "counter": 6}), {}
    )
    tracefs = [Event(1, seq, 0, "tracefs", f"t{seq}", "call") for seq in (4, 5, 6)]
    names = [f"{event.name}.{event.phase}" for event in merge(tracefs, gdb, platform.events)]
    assert names == ["t4.call", "p.held", "vmxon.point", "t5.call", "t6.call", "p.released", "f.call"]
