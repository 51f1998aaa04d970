"""Events while they happen, from the tails of a run's files; and what `until` makes of them."""

from __future__ import annotations

import json
from pathlib import Path

from harness.observe.sample import ABSENT, Sample
from harness.run.events import EventLog
from harness.run.until import _enough, _has
from harness.scenario.kinds import Selector

TRACE = """\
 sh-170 [001] 5: tracing_mark_write: harness:boot:1
 cpuhp/0-20 [000] 6: kvm_online_cpu: (kvm_online_cpu+0x0/0x60)
 cpuhp/1-21 [001] 9: kvm_online_cpu: (kvm_online_cpu+0x0/0x60)
"""
PLATFORM = {"boot": 1, "inc": 1, "cpu": 1, "counter": 9, "task": "guestctl", "pid": 172}


def log(folder: Path) -> EventLog:
    (folder / "trace.txt").write_text(TRACE)
    lines = [
        {**PLATFORM, "seq": 1, "name": "vmxon", "phase": "point", "args": {"pa": 1}},
        {**PLATFORM, "seq": 2, "name": "in-window", "phase": "held"},
    ]
    (folder / "platform.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return EventLog(folder, None)


def names(folder: Path, log: EventLog, position: dict[str, int], boot: int = 1) -> list[str]:
    return [event.name for event in log.since(position, boot)]


def test_all_sources_are_heard(tmp_path: Path) -> None:
    assert names(tmp_path, log(tmp_path), {}) == ["kvm_online_cpu", "kvm_online_cpu", "vmxon", "in-window"]


def test_what_came_before_is_left_out_and_what_comes_after_is_not(tmp_path: Path) -> None:
    watched = log(tmp_path)
    position = dict(watched.position())
    assert names(tmp_path, watched, position) == []
    with (tmp_path / "trace.txt").open("a") as file:
        file.write(" cpuhp/2-22 [002] 12: kvm_online_cpu: (kvm_online_cpu+0x0/0x60)\n cpuhp/3-23 [00")
    with (tmp_path / "holds.jsonl").open("a") as file:
        file.write(json.dumps({**PLATFORM, "seq": 0, "name": "in-window", "phase": "released"}) + "\n")
    assert names(tmp_path, watched, position) == ["kvm_online_cpu", "in-window"]
    assert names(tmp_path, watched, position, boot=2) == ["kvm_online_cpu"]  # the tracer's are of the present boot


def test_enough_is_so_many_and_on_every_cpu_where_asked(tmp_path: Path) -> None:
    events = log(tmp_path).since({}, 1)
    assert _enough(events, Selector.parse("kvm_online_cpu"), 2, (0, 1))
    assert not _enough(events, Selector.parse("kvm_online_cpu"), 3, (0, 1))
    assert _enough(events, Selector.parse("kvm_online_cpu@each"), 1, (0, 1))
    assert not _enough(events, Selector.parse("kvm_online_cpu@each"), 1, (0, 1, 2))
    assert _enough(events, Selector.parse("in-window"), 1, ())


def test_a_guest_that_cannot_be_asked_lacks_nothing() -> None:
    wanted: dict[str, str | int] = {"modules.kvm": ABSENT}
    assert not _has(Sample("s", 1, {}, {}, ()), wanted)
    assert _has(Sample("s", 1, {}, {}, (), guest={"modules": {}}), wanted)
    assert not _has(Sample("s", 1, {}, {}, (), guest={"modules": {"kvm": {"refcnt": 0}}}), wanted)
