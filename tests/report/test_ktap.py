"""KTAP, as the kernel's tools/testing/kunit/kunit_parser.py reads it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.judge.verdict import Verdict
from harness.report.batch import Batch
from harness.report.ktap import ktap
from harness.report.result import RunResult
from tests.report import kunit, runs

READ_AS = {
    Verdict.CONFIRMED: "SUCCESS",
    Verdict.VIOLATED: "FAILURE",
    Verdict.NOT_EXERCISED: "SKIPPED",
    Verdict.HARNESS_FAULT: "FAILURE",
}


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (runs.confirmed, "ok 1 c"),
        (runs.violated, "not ok 1 c # load gave EIO, not OK"),
        (runs.known, "ok 1 c # XFAIL known; fixed by abcdef123456; load gave EIO, not OK"),
        (runs.stale, "not ok 1 c # confirmed, but declared violated on debian:6.12"),
        (runs.not_exercised, "ok 1 c # SKIP no event on on CPU 1"),
        (runs.faulty, "not ok 1 c # ERROR QEMU died"),
    ],
)
def test_result_lines(make: Callable[[], RunResult], line: str) -> None:
    lines = ktap(Batch([make()])).splitlines()
    assert lines[:5] == [
        "KTAP version 1",
        "1..1",
        "  KTAP version 1",
        "  # Subtest: t on debian:6.12 tcg-svm",
        "  1..1",
    ]
    assert f"  {line}" in lines
    assert lines[-1].startswith("ok 1 t on" if line.startswith("ok") else "not ok 1 t on")


def test_a_run_that_did_not_come_about_is_in_the_plan_and_an_error() -> None:
    lines = ktap(Batch([runs.confirmed()], [runs.not_run()])).splitlines()
    assert lines[1] == "1..2"
    assert "  not ok 1 c # ERROR not run: the batch was interrupted" in lines


def test_a_permutation_has_no_hash_sign_in_its_name() -> None:
    result = runs.confirmed()
    object.__setattr__(result, "scenario", "t#2")
    assert ktap(Batch([result])).splitlines()[-1] == "ok 1 t.2 on debian:6.12 tcg-svm"


@pytest.mark.network
def test_the_kernel_reads_every_verdict_of_the_recorded_runs() -> None:
    results = runs.recorded()
    root = kunit.parse(ktap(Batch(results)))
    expected = [
        (claim.use.claim.id, "SUCCESS" if claim.known and claim.as_declared else READ_AS[claim.verdict])
        for result in results
        for claim in result.judgement.claims
    ]
    assert kunit.statuses(root) == expected
    assert root.counts.errors == 0
    assert [suite.name for suite in root.subtests] == [f"{run.scenario} on {run.column}" for run in results]


@pytest.mark.network
@pytest.mark.parametrize(
    ("make", "status"), [(runs.violated, "FAILURE"), (runs.not_exercised, "SKIPPED"), (runs.faulty, "FAILURE")]
)
def test_the_kernel_reads_what_is_not_confirmed(make: Callable[[], RunResult], status: str) -> None:
    root = kunit.parse(ktap(Batch([runs.confirmed(), make()])))
    assert [found for _, found in kunit.statuses(root)] == ["SUCCESS", status]


@pytest.mark.network
@pytest.mark.parametrize("make", [runs.violated, runs.faulty])
def test_hostile_text_stays_a_failure_and_hides_nothing(make: Callable[[str], RunResult]) -> None:
    text = ktap(Batch([make(runs.HOSTILE), make("x # SKIP y"), runs.violated(), runs.confirmed()]))
    assert "\x1b" not in text
    root = kunit.parse(text)
    assert [found for _, found in kunit.statuses(root)] == ["FAILURE"] * 3 + ["SUCCESS"]
    assert root.counts.errors == 0


@pytest.mark.network
def test_the_kernel_misses_a_run_that_the_plan_has() -> None:
    text = ktap(Batch([runs.confirmed(), runs.confirmed()]))
    cut = "\n".join(text.splitlines()[:-6])
    assert kunit.parse(text).counts.errors == 0
    assert kunit.parse(cut).counts.errors > 0
