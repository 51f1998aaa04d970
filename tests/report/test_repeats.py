"""Runs of the same: agreement, disagreement, and the exit status of both."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.errors import Exit
from harness.judge.judge import judge
from harness.judge.record import Fault, RunRecord
from harness.judge.verdict import Judgement
from harness.report.repeats import print_disagreements, repeats
from harness.report.result import RunResult
from tests.judge.records import event, record

ORDER = "  - order: [on, late]\n"
CONFIRMED = record(ORDER, [event(10, 0, "on"), event(15, 0, "late")])
VIOLATED = record(ORDER, [event(15, 0, "on"), event(10, 0, "late")])
UNSEEN = record(ORDER)
FAULTY = record(ORDER, fault=Fault("HostFault", 3, "the disk is full"))


def results(*records: RunRecord) -> list[RunResult]:
    return [
        replace(RunResult.of(run, judge(run), 1.0), folder=Path(f"runs/{number}"))
        for number, run in enumerate(records)
    ]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([CONFIRMED], Exit.CONFIRMED),
        ([CONFIRMED, CONFIRMED], Exit.CONFIRMED),
        ([VIOLATED, VIOLATED], Exit.VIOLATED),
        ([CONFIRMED, VIOLATED], Exit.NOT_EXERCISED),
        ([VIOLATED, UNSEEN, VIOLATED], Exit.NOT_EXERCISED),
        ([VIOLATED, FAULTY], Exit.HARNESS_FAULT),
    ],
)
def test_runs_that_differ_prove_nothing(records: list[RunRecord], expected: Exit) -> None:
    (group,) = repeats(results(*records))
    assert group.exit is expected


def test_a_claim_that_changes_hides_no_violation_of_another() -> None:
    def two(first: RunRecord, second: RunRecord) -> RunResult:
        """One run with two claims."""
        steady, other = results(first, second)
        (claim,) = steady.judgement.claims
        renamed = claim.use.claim.model_copy(update={"id": "steady"})
        claim = replace(claim, use=claim.use.model_copy(update={"claim": renamed}))
        return replace(other, judgement=Judgement((claim, *other.judgement.claims)))

    (group,) = repeats([two(VIOLATED, CONFIRMED), two(VIOLATED, UNSEEN)])
    assert group.exit is Exit.VIOLATED
    (group,) = repeats([two(CONFIRMED, CONFIRMED), two(CONFIRMED, UNSEEN)])
    assert group.exit is Exit.NOT_EXERCISED


def test_a_disagreement_is_shown_with_a_folder_of_each_kind() -> None:
    groups = repeats(results(CONFIRMED, VIOLATED, CONFIRMED))
    console = Console(width=120, record=True, file=io.StringIO())
    print_disagreements(console, groups)
    assert console.export_text().splitlines() == [
        "nondeterministic: c of t on debian:6.12 tcg-svm",
        "  confirmed in 2 of 3 runs, such as runs/0",
        "  violated in 1 of 3 runs, such as runs/1",
    ]
    assert [run.folder.name for run in groups[0].samples] == ["0", "1"]


def test_agreement_is_silent_and_shows_the_first_run() -> None:
    groups = repeats(results(CONFIRMED, CONFIRMED))
    console = Console(record=True, file=io.StringIO())
    print_disagreements(console, groups)
    assert console.export_text() == ""
    assert [run.folder.name for run in groups[0].samples] == ["0"]


def test_runs_on_different_kernels_are_not_the_same() -> None:
    first, second = results(CONFIRMED, VIOLATED)
    assert [group.exit for group in repeats([first, replace(second, kernel="debian:6.1")])] == [0, 1]
