"""What a verdict comes to for CI: green exactly what the harness's own exit status takes for good."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import Exit
from harness.report.batch import Batch
from harness.report.cases import Status, suites
from harness.report.result import RunResult
from harness.visible import visible
from tests.report import runs


@pytest.mark.parametrize(
    ("make", "status", "message"),
    [
        (runs.confirmed, Status.PASS, ""),
        (runs.violated, Status.FAIL, "load gave EIO, not OK"),
        (runs.known, Status.KNOWN, "known; fixed by abcdef123456; load gave EIO, not OK"),
        (runs.stale, Status.FAIL, "confirmed, but declared violated on debian:6.12"),
        (runs.not_exercised, Status.SKIP, "no event"),
        (runs.faulty, Status.ERROR, "QEMU died"),
    ],
)
def test_each_verdict_has_a_status_and_a_sentence(
    make: Callable[[], RunResult], status: Status, message: str
) -> None:
    (suite,) = suites(Batch([make()]))
    (case,) = suite.cases
    assert case.status is suite.status is status
    assert case.message.startswith(message) if message else not case.message


def test_what_is_green_is_what_exits_0() -> None:
    results = [
        *runs.recorded(),
        runs.confirmed(),
        runs.violated(),
        runs.known(),
        runs.stale(),
        runs.not_exercised(),
        runs.faulty(),
    ]
    for result in results:
        (suite,) = suites(Batch([result]))
        good = all(case.status in (Status.PASS, Status.KNOWN) for case in suite.cases)
        assert good == (result.exit is Exit.CONFIRMED), result.folder


def test_a_run_that_did_not_come_about_is_an_error() -> None:
    (suite,) = suites(Batch([], [runs.not_run()]))
    assert [case.message for case in suite.cases] == ["not run: the batch was interrupted"]
    assert suite.status is Status.ERROR


def test_runs_of_the_same_are_told_apart() -> None:
    names = [suite.name for suite in suites(Batch([runs.confirmed()] * 3))]
    assert len(set(names)) == 3


def test_long_evidence_is_cut_and_says_where_the_rest_is() -> None:
    (suite,) = suites(Batch([runs.violated("line\n" * 200)]))
    assert len(suite.cases[0].detail) <= 81
    assert "harness judge -v" in suite.cases[0].detail[-1]


def test_what_cannot_be_printed_is_written_out() -> None:
    assert visible("a\x1b[1m\x00\x9b\udce9é→\n\t") == "a\\x1b[1m\\x00\\x9b\\udce9é→\n\t"
    assert visible("a#b", "#") == "a\\x23b"
