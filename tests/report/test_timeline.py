"""What lasts from where to where: calls, holds, steps, virtualization, samples and the kernel log."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest

from harness.judge.judge import judge
from harness.judge.record import RunRecord
from harness.judge.verdict import Finding
from harness.observe.sample import Sample
from harness.probes.event import Event
from harness.report.timeline import Band, Span, Timeline, timeline
from harness.scenario.kinds import Phase
from tests.judge.records import event, outcome, record, sample, step
from tests.report.run_folders import RUNS, recorded

ORDER = "  - order: [on, late]\n"


def lines(run: RunRecord) -> Timeline:
    return timeline(run, judge(run))


def of(events: Sequence[Event], samples: Sequence[Sample] = (), console: str = "") -> Timeline:
    return lines(record(ORDER, events, samples, console=console))


def spans(found: Timeline, kind: str) -> list[tuple[str, int, int, bool, str]]:
    return [(s.name, s.first, s.last, s.ended, s.outcome) for s in found.spans if s.kind == kind]


def bands(found: Timeline, cpu: int = 0) -> list[tuple[int, int, str, bool]]:
    return [(b.first, b.end, b.state, b.inferred) for b in found.bands if b.cpu == cpu]


def by(pid: int, one: Event) -> Event:
    return replace(one, pid=pid)


def test_calls_of_a_task_nest_and_follow_it_to_another_cpu() -> None:
    found = of(
        [
            event(1, 0, "on"),
            event(2, 0, "late"),
            by(8, event(3, 1, "late")),
            event(4, 1, "late", "return", ret=-5 & (1 << 64) - 1),
            event(5, 1, "on", "return", ret=0),
            by(8, event(6, 1, "late", "return")),
        ]
    )
    assert spans(found, "call") == [("on", 0, 4, True, "0"), ("late", 1, 3, True, "-EIO"), ("late", 2, 5, True, "")]


def test_each_cpu_has_an_idle_task() -> None:
    idle = [by(0, event(seq, cpu, "on")) for seq, cpu in ((1, 0), (2, 1))]
    idle += [by(0, event(seq, cpu, "on", "return")) for seq, cpu in ((3, 0), (4, 1))]
    assert [(s.cpu, s.first, s.last) for s in of(idle).spans] == [(0, 0, 2), (1, 1, 3)]


def test_a_call_without_its_return_lasts_as_long_as_its_caller_or_its_boot() -> None:
    found = of([event(1, 0, "on"), event(2, 0, "late"), event(3, 0, "on", "return"), event(4, 0, "off")])
    assert spans(found, "call") == [("on", 0, 2, True, ""), ("late", 1, 2, False, ""), ("off", 3, 3, False, "")]
    found = of([event(1, 0, "on"), event(2, 1, "late"), event(1, 0, "off", boot=2)])
    assert spans(found, "call")[0] == ("on", 0, 1, False, "")


def test_a_return_without_its_call_is_no_call() -> None:
    found = of([event(1, 0, "late"), event(2, 0, "on", "return"), event(3, 0, "late", "return")])
    assert spans(found, "call") == [("late", 0, 2, True, "")]


@pytest.mark.parametrize(("phase", "told"), [("released", True), ("lost", True), ("point", False)])
def test_a_hold_lasts_until_its_release(phase: Phase, told: bool) -> None:
    end = event(3, 1, "here", phase)
    found = of([event(1, 1, "here", "held"), event(2, 0, "on", "point"), end])
    expected = phase if told else "held to the end of the boot"
    assert spans(found, "hold") == [("here", 0, 2, told, expected)]


def test_steps_have_their_outcomes_and_may_have_no_end() -> None:
    events = [*step("load", 1, 3), *step("unload", 4, None), event(5, 0, "on", "point")]
    run = record(ORDER, events, outcomes=[outcome("load", "EBUSY"), outcome("unload")])
    assert spans(lines(run), "step") == [("load", 0, 1, True, "EBUSY"), ("unload", 2, 3, False, "OK")]


def test_writes_to_cr4_tell_virtualization_exactly() -> None:
    def cr4(seq: int, old: str, new: str) -> Event:
        return event(seq, 0, "cr4", "point", old=old, new=new)

    found = of(
        [
            event(1, 0, "on", "point"),
            cr4(2, "0x6f0", "0x26f0"),
            event(3, 0, "cr4", "point", old="0x26f0", new="0x6f0", fault="GP"),  # refused: it stays on
            event(4, 0, "vendor_disable", "return", ret=0),  # says nothing where CR4 is seen
            cr4(5, "0x26f0", "0x6f0"),
        ]
    )
    assert bands(found) == [(0, 1, "off", True), (1, 4, "on", False), (4, 5, "off", False)]


def test_without_cr4_the_kernel_s_calls_tell_and_that_is_said() -> None:
    found = of(
        [
            event(1, 0, "vendor_enable", "return", ret=-5 & (1 << 64) - 1),  # refused
            event(2, 0, "vendor_enable", "return", ret=0),
            event(3, 0, "vendor_disable", "return", ret=0),
        ]
    )
    assert bands(found) == [(0, 1, "off", True), (1, 2, "on", True), (2, 3, "off", True)]


def test_a_sample_that_differs_shows_that_something_went_unseen() -> None:
    events = [*step("load", 1, 2), event(3, 0, "on", "point"), *step("unload", 4, 5)]
    found = of(events, [sample("loaded", on=[0]), sample("reset", on=[])])
    outcomes = [outcome("load"), outcome("sample"), outcome("unload")]
    run = record(ORDER, events, [sample("loaded", on=[0]), sample("reset", on=[])], outcomes)
    found = lines(run)
    assert [(taken.sample.name, taken.before) for taken in found.samples] == [("loaded", 2), ("reset", 5)]
    assert bands(found) == [(0, 2, "unknown", True), (2, 5, "unknown", False)]
    assert bands(found, cpu=1) == [(0, 5, "off", False)]


def test_nothing_told_is_not_known() -> None:
    assert bands(of([event(1, 0, "on", "point")])) == [(0, 1, "unknown", True)]


def test_bands_of_a_cpu_have_no_gap_and_begin_anew_with_a_boot() -> None:
    on = [event(2, 0, "cr4", "point", boot=boot, old="0x0", new="0x2000") for boot in (1, 2)]
    found = of([event(1, 0, "on", "point"), on[0], event(1, 0, "on", "point", boot=2), on[1]])
    assert bands(found) == [(0, 1, "off", True), (1, 2, "on", False), (2, 3, "off", True), (3, 4, "on", False)]


def test_messages_are_linked_with_their_lines_in_their_boot() -> None:
    def said(seq: int, text: str, boot: int = 1) -> Event:
        return event(seq, 0, "console", "point", boot=boot, text=text)

    console = "\n".join(
        [
            "[    0.000000] Linux version 6.12",
            "[    1.500000] again",
            "guest# [6n[    2.000000] again",
            "no time stamp",
            "[    0.000000] Linux version 6.12",
            "[    3.000000] again",
        ]
    )
    found = of([said(1, "again"), said(2, "again"), said(3, "never printed"), said(1, "again", boot=2)], (), console)
    assert {position: (line.number, line.time) for position, line in found.log_of.items()} == {
        0: (1, "1.500000"),
        1: (2, "2.000000"),
        3: (5, "3.000000"),
    }
    assert [line.boot for line in found.log] == [1, 1, 1, 1, 2, 2]


def test_evidence_is_marked_with_its_finding() -> None:
    found = of([event(1, 0, "late"), event(2, 0, "on")])
    assert {i: [mark.finding for mark in marks] for i, marks in found.marks.items()} == {
        0: [Finding.FAILED],
        1: [Finding.FAILED],
    }


@pytest.mark.parametrize("name", RUNS)
def test_of_recorded_runs(name: str) -> None:
    run, judgement = recorded(name)
    found = timeline(run, judgement)
    for span in found.spans:
        check_span(span, found)
    for cpu in found.cpus:
        own = [band for band in found.bands if band.cpu == cpu]
        check_bands(own, found)
    # What the kernel said when the console's owner had been stopped was never printed; some lines come in parts.
    log = {line.text for line in found.log} - {""}
    printed = [i for i, one in enumerate(found.events) if one.name == "console" and one.args["text"] in log]
    assert set(found.log_of) == set(printed)


def check_span(span: Span, found: Timeline) -> None:
    assert 0 <= span.first <= span.last < len(found.events)
    assert found.events[span.first].boot == found.events[span.last].boot == span.boot


def check_bands(own: Sequence[Band], found: Timeline) -> None:
    assert own[0].first == 0 and own[-1].end == len(found.events)
    assert all(before.end == after.first for before, after in itertools.pairwise(own))
