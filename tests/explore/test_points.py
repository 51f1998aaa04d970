"""Points in the order in which a kernel comes to them."""

from __future__ import annotations

import dataclasses

import pytest

from harness.errors import HostFault, UsageError
from harness.explore.activities import ACTIVITIES, SyncPoint
from harness.explore.points import parse_points, recorded
from harness.judge.record import Fault, RunRecord
from harness.probes.event import Event
from harness.scenario.kinds import Phase
from tests.judge.records import record

FIRST, SECOND, BACK = SyncPoint("on", "first"), SyncPoint("off", "second"), SyncPoint("on", "back", "return")


def seen(*calls: tuple[str, Phase, str]) -> RunRecord:
    """A load in which these were called, in this order: function, phase and task."""
    marks = [Event(1, 10, 1, "tracefs", "load", "begin"), Event(1, 90, 1, "tracefs", "load", "end")]
    events = [Event(1, 11 + i, 1, "tracefs", name, phase, task, 7) for i, (name, phase, task) in enumerate(calls)]
    return record("  - exit: {load: OK}\n", [marks[0], *events, marks[1]])


def found(*calls: tuple[str, Phase, str], wanted: tuple[SyncPoint, ...] = (FIRST, SECOND, BACK)) -> list[str]:
    return [point.text for point in recorded(ACTIVITIES["load"], wanted, seen(*calls)).points]


def test_the_order_is_the_kernels_and_not_the_tables() -> None:
    calls: list[tuple[str, Phase, str]] = [
        ("on", "call", "guestctl"),
        ("on", "return", "guestctl"),
        ("off", "call", "guestctl"),
    ]
    assert found(*calls) == ["on", "on.return", "off"]


def test_only_the_activitys_task_counts() -> None:
    assert found(("off", "call", "systemd"), ("on", "call", "guestctl"), ("off", "call", "guestctl")) == ["on", "off"]
    of_thread = SyncPoint("off", "in the CPU's thread", task="cpuhp/3")
    assert found(("on", "call", "guestctl"), ("off", "call", "cpuhp/3"), wanted=(FIRST, of_thread)) == ["on", "off"]


def test_what_comes_before_the_first_point_makes_a_later_hit() -> None:
    on: tuple[str, Phase, str] = ("on", "call", "guestctl")
    off: tuple[str, Phase, str] = ("off", "call", "guestctl")
    assert found(off, off, on, off) == ["on", "off#3"]


def test_what_is_not_come_to_is_said() -> None:
    recording = recorded(ACTIVITIES["load"], (FIRST, SECOND), seen(("on", "call", "guestctl")))
    assert recording.points == (FIRST,) and recording.absent == (SECOND,)
    twice = dataclasses.replace(FIRST, hit=2)
    assert recorded(ACTIVITIES["load"], (FIRST, twice), seen(("on", "call", "guestctl"))).absent == (twice,)


def test_nothing_to_hold_at() -> None:
    with pytest.raises(UsageError, match="comes to none of on, off"):
        recorded(ACTIVITIES["load"], (FIRST, SECOND), seen())


def test_a_run_that_failed_tells_nothing() -> None:
    failed = dataclasses.replace(seen(("on", "call", "guestctl")), fault=Fault("HostFault", 3, "QEMU died"))
    with pytest.raises(HostFault, match="QEMU died"):
        recorded(ACTIVITIES["load"], (FIRST,), failed)


def test_points_of_the_command_line() -> None:
    name, points = parse_points("load=kvm_init, register_syscore.return,foo.call#2")
    assert name == "load"
    assert [point.text for point in points] == ["kvm_init", "register_syscore.return", "foo#2"]
    assert all(point.touches == SyncPoint("f", "").touches for point in points)


@pytest.mark.parametrize("text", ["load", "load=", "load=a,,b", "load=a.exit", "load=a#0", "load=a#x"])
def test_what_is_no_point(text: str) -> None:
    with pytest.raises(UsageError):
        parse_points(text)
