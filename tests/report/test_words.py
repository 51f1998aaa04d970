"""A run's verdict in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.judge.judge import judge
from harness.judge.record import Fault
from harness.judge.verdict import ClaimVerdict, Finding, Found, Judgement, Verdict
from harness.report.timeline import timeline
from harness.report.words import course, declared, explanation, headline, tally, worst
from harness.scenario.model import VerdictName
from tests.judge.records import event, outcome, record
from tests.report.run_folders import KNOWN, VIOLATED, recorded

ORDER = "  - order: [on, late]\n"
USE = record(ORDER).scenario.claims[0]
C, V, N, H = Verdict.CONFIRMED, Verdict.VIOLATED, Verdict.NOT_EXERCISED, Verdict.HARNESS_FAULT


def judgement(*verdicts: Verdict, known: VerdictName | None = None) -> Judgement:
    return Judgement(tuple(ClaimVerdict(USE, verdict, (), known) for verdict in verdicts))


@pytest.mark.parametrize(
    ("verdicts", "known", "expected"),
    [
        ([C], None, "Confirmed"),
        ([V], None, "Violated"),
        ([V], "violated", "Violated, as declared"),
        ([C], "violated", "Confirmed, not as declared"),
        ([C, C], None, "Both claims confirmed"),
        ([C, C, C], None, "All 3 claims confirmed"),
        ([C, V, C], None, "1 of 3 claims violated"),
        ([V, N], None, "1 of 2 claims violated"),
        ([N, C], None, "1 of 2 claims not exercised"),
        ([N, N], "not exercised", "Both claims not exercised, as declared"),
        ([H, H], None, "No verdict: the harness failed"),
        ([], None, "All 0 claims not exercised"),
    ],
)
def test_headline(verdicts: list[Verdict], known: VerdictName | None, expected: str) -> None:
    assert headline(judgement(*verdicts, known=known)) == expected


def test_many_verdicts_are_counted_the_worst_first() -> None:
    assert tally(judgement(C, V, C, N).claims) == "1 violated, 1 not exercised, 2 confirmed"
    assert (
        tally([*judgement(V, known="violated").claims, *judgement(C).claims])
        == "1 violated, 1 confirmed: as declared"
    )
    assert tally(judgement(C, known="violated").claims) == "1 confirmed: not as declared"
    assert tally(judgement(C).claims) == "1 confirmed" and tally([]) == "No verdicts"


def test_the_worst_is_what_hides_most() -> None:
    assert [worst(judgement(*some).claims) for some in ([C, N], [N, V], [V, H])] == [N, V, H]


@pytest.mark.parametrize(
    ("verdict", "known", "expected"), [(V, None, ""), (V, "violated", "known"), (C, "violated", "declared: violated")]
)
def test_what_is_declared(verdict: Verdict, known: VerdictName | None, expected: str) -> None:
    assert declared(judgement(verdict, known=known).claims[0]) == expected


def test_a_crash_on_top_of_what_is_declared_is_told() -> None:
    [claim] = judgement(V, known="violated").claims
    crashed = replace(claim, findings=(Found(Finding.FAILED, "the guest reset, and no step had asked for that"),))
    assert declared(crashed) == "declared: violated, and more went wrong"


def test_an_explanation_is_what_failed_and_who_is_to_blame() -> None:
    assert explanation(*recorded(VIOLATED)) == [
        "load gave OK, not EBUSY",
        "virtualization on at before-reset: CPU 0, 1, 2, 3; expected: none",
    ]
    run = record(ORDER, fault=Fault("HostFault", 3, "the disk is full\n  try: free some space"))
    assert explanation(run, judge(run)) == ["The kernel is not to blame. The run ended early: the disk is full"]
    unseen = record(ORDER)
    assert explanation(unseen, judge(unseen))[0].startswith("no event on")
    assert len(explanation(*recorded(KNOWN))) == 1


def test_a_scenario_s_own_words_come_first_where_they_are_true() -> None:
    run = record(ORDER, [event(1, 0, "on"), event(2, 0, "late")])
    use = run.scenario.claims[0].model_copy(update={"means": {"debian:6.12": "all is well"}})
    run = replace(run, scenario=run.scenario.model_copy(update={"claims": [use]}))
    assert explanation(run, judge(run)) == ["c: all is well"]


def test_the_course_of_a_wrong_state_is_the_order_and_who_was_held() -> None:
    events = [event(1, 0, "on"), event(2, 1, "here", "held"), event(3, 0, "late"), event(4, 1, "here", "released")]
    run = record(ORDER + "  - exit: {load: EBUSY}\n", [*events, event(5, 0, "off")], outcomes=[outcome("load")])
    (claim,) = judge(run).claims
    assert course(claim, timeline(run, judge(run))) == events
    # Where events contradict, they are shown there.
    run = record(ORDER, [event(1, 0, "late"), event(2, 0, "on")])
    (claim,) = judge(run).claims
    assert claim.verdict is V and course(claim, timeline(run, judge(run))) == []
