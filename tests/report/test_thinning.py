"""Which events of a long run are shown: all that a verdict rests on, and of the rest the rarest kinds."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judge.judge import judge
from harness.probes.event import Event
from harness.report.thinning import Shown, shown
from harness.report.timeline import Timeline, timeline
from tests.judge.records import event, record


def lines(events: Sequence[Event]) -> Timeline:
    run = record("  - order: [on, late]\n", events)
    return timeline(run, judge(run))


def noise(first: int, last: int) -> list[Event]:
    return [event(seq, 1, "noise", "point") for seq in range(first, last + 1)]


def whole(found: Shown, line: Timeline) -> bool:
    return len(found.positions) + found.count_left_out == len(line.events)


def test_a_short_run_is_shown_whole() -> None:
    line = lines(noise(1, 50))
    found = shown(line, most=50)
    assert found.positions == tuple(range(50)) and not found.left_out and whole(found, line)


def test_what_a_verdict_rests_on_and_what_is_rare_is_shown() -> None:
    events = [*noise(1, 40), event(41, 0, "late"), *noise(42, 60), event(61, 0, "on"), event(62, 0, "rare", "point")]
    line = lines(events)
    found = shown(line, most=10)
    assert len(found.positions) == 10 and whole(found, line)
    names = [line.events[position].name for position in found.positions]
    assert names.count("noise") == 7 and {"late", "on", "rare"} < set(names)
    # Of what does not fit, the first ones and the last ones; each gap says what is missing there.
    assert found.positions[:3] == (0, 1, 2) and line.events[found.positions[-3]].seq == 60
    assert found.left_out[40] == {"noise": 36}


def test_more_evidence_than_there_is_room_for_is_cut_as_well() -> None:
    line = lines([event(seq, 0, "on" if seq % 2 else "late") for seq in range(1, 101)])
    found = shown(line, most=10)
    assert len(found.positions) == 10 and whole(found, line)


def test_what_is_left_out_at_the_end_is_said_behind_the_last() -> None:
    line = lines([event(1, 0, "on"), event(2, 0, "late"), *noise(3, 99)])
    found = shown(line, most=3)
    assert found.positions == (0, 1, 2)
    assert found.left_out == {99: {"noise": 96}}
