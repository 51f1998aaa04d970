"""Verdicts to what git bisect understands."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bisection.answer import (
    Answer,
    Answered,
    Place,
    answer_of,
    append_answer,
    read_answers,
    verdicts_of,
    why,
    worst,
)
from harness.bisection.history import Commit
from harness.judge.judge import judge
from harness.judge.record import load_record
from harness.judge.verdict import Verdict
from harness.paths import PROJECT
from harness.report.result import RunResult

A, B = ("load", "first"), ("load", "second")
CONFIRMED, VIOLATED, UNSEEN, FAULT = (
    Verdict.CONFIRMED,
    Verdict.VIOLATED,
    Verdict.NOT_EXERCISED,
    Verdict.HARNESS_FAULT,
)


def test_exit_statuses_are_those_of_git_bisect() -> None:
    assert {answer.value: answer.status for answer in Answer} == {"good": 0, "bad": 1, "skip": 125, "abort": 131}


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [
        (CONFIRMED, CONFIRMED, Answer.GOOD),
        (CONFIRMED, VIOLATED, Answer.BAD),
        (CONFIRMED, UNSEEN, Answer.SKIP),
        (CONFIRMED, FAULT, Answer.ABORT),
        (UNSEEN, FAULT, Answer.ABORT),
        # What was seen was seen, whatever became of the other claim.
        (VIOLATED, UNSEEN, Answer.BAD),
        (VIOLATED, FAULT, Answer.BAD),
    ],
)
def test_answer(first: Verdict, second: Verdict, answer: Answer) -> None:
    assert answer_of({A: first, B: second}, [A, B]) is answer
    assert answer_of({A: second, B: first}, [A, B]) is answer


def test_claims_that_are_not_bisected_do_not_count() -> None:
    assert answer_of({A: CONFIRMED, B: VIOLATED}, [A]) is Answer.GOOD
    assert why({A: CONFIRMED, B: VIOLATED}, [A]) == "confirmed: first"
    assert why({A: CONFIRMED, B: VIOLATED}, [A, B]) == "violated: second"


def test_what_no_run_speaks_of_is_skipped() -> None:
    assert answer_of({}, [A]) is Answer.SKIP
    assert answer_of({A: CONFIRMED}, []) is Answer.SKIP


def recorded(name: str) -> RunResult:
    record = load_record(PROJECT / "tests/recorded" / name)
    return RunResult.of(record, judge(record), 1.0)


def test_of_several_runs_one_violation_counts() -> None:
    place: Place = ("load-unload", "cpuhp-invokes-online-on-each-cpu")
    good, bad = recorded("load-unload-6.12-confirmed"), recorded("mutant-cpuhp-nocalls-violated")
    assert verdicts_of([good])[place] is CONFIRMED
    assert verdicts_of([good, bad, good])[place] is VIOLATED
    assert worst([]) is UNSEEN


def test_tested_is_read_back_without_faults_of_the_harness(tmp_path: Path) -> None:
    import json

    good = Answered(Commit("a" * 40, 'say "so"'), Answer.GOOD, "confirmed: first", 1.5, {A: CONFIRMED}, ("runs/x",))
    fault = Answered(Commit("b" * 40, "t"), Answer.ABORT, "QEMU died", 2.0)
    path = tmp_path / "answers.jsonl"
    assert read_answers(path) == {}
    path.write_text("".join(json.dumps(one.to_json()) + "\n" for one in (good, fault)))
    assert read_answers(path) == {good.commit.id: good}


def test_half_a_line_of_a_full_disk_is_no_answer(tmp_path: Path) -> None:
    one, other = (Answered(Commit(sha * 40, "t"), Answer.GOOD, "", 1.5, {A: CONFIRMED}) for sha in "ab")
    path = tmp_path / "answers.jsonl"
    append_answer(path, one)
    with path.open("a") as file:
        file.write('{"commit": "')
    assert read_answers(path) == {one.commit.id: one}
    append_answer(path, other)
    assert read_answers(path) == {one.commit.id: one, other.commit.id: other}
