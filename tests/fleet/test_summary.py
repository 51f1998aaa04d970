"""What a night says in the light of those before it: broken, fixed, flaky, new, gone; and its exit status."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.deadline import Deadline
from harness.errors import Exit
from harness.fleet.database import open_database
from harness.fleet.frozen import FrozenKernel
from harness.fleet.nights import Attempt, ClaimOutcome, NightKernel, Nights
from harness.fleet.plan import Cell
from harness.fleet.report import print_summary
from harness.fleet.span import span
from harness.fleet.summary import Status, Summary, cell_exit, summarize
from harness.judge.verdict import Verdict
from tests.fleet.site import Site

RED, GREEN, UNSEEN = Verdict.VIOLATED, Verdict.CONFIRMED, Verdict.NOT_EXERCISED
FAULT = Verdict.HARNESS_FAULT


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    connection = open_database(tmp_path / "x.sqlite")
    yield Nights(connection, tmp_path / "x.sqlite", "nightly")
    connection.close()


def attempt(number: int, verdict: Verdict, known: str | None = None) -> Attempt:
    declared = verdict.value == (known or "confirmed")
    exit = Exit.CONFIRMED if declared else verdict.exit or Exit.VIOLATED
    evidence = f"run {number} was {verdict.value}"
    claims = (ClaimOutcome("undone", verdict, known, declared, evidence),)
    return Attempt(number, 2.0, f"/runs/{number}", exit, "", claims)


def night(
    nights: Nights,
    *cells: Sequence[Attempt],
    revision: str = "1",
    digest: str = "d",
    scenarios: Sequence[str] = ("load", "demo"),
    finished: bool = True,
) -> int:
    """A night on kernel `k`, whose key follows from its revision; a cell for each scenario that has attempts."""
    frozen = FrozenKernel("k", "debian:6.12", revision=revision, key=f"key-{revision}", release="6.12")
    names = scenarios[: len(cells)]
    number = nights.begin("plan", [NightKernel(frozen)], [(Cell(name, "k", "tcg-svm"), digest) for name in names])
    for one, attempts in zip(nights.cells(number), cells, strict=True):
        for single in attempts:
            nights.record(one.id, single)
    if finished:
        nights.finish(number)
    return number


def summary(nights: Nights, number: int, window: int = 10) -> Summary:
    chosen = next(one for one in nights.all() if one.id == number)
    deadline = Deadline.after(20, "a test")
    return summarize(nights, chosen, window, lambda old, new: span(old, new, deadline))


def only(found: Summary) -> tuple[Status, int | None, str]:
    [line] = found.lines
    return line.status, line.reference, line.span.text if line.span else ""


def test_the_first_night_is_all_new(nights: Nights) -> None:
    found = summary(nights, night(nights, [attempt(1, GREEN)]))
    assert only(found) == (Status.NEW, None, "")
    assert (found.exit, found.vanished, found.cells, found.missing) == (Exit.CONFIRMED, (), 1, 0)


def test_what_broke_is_told_with_the_last_green_night_and_what_came_since(nights: Nights) -> None:
    night(nights, [attempt(1, GREEN)], revision="6.12.90-1")
    broke = summary(nights, night(nights, [attempt(1, RED)], revision="6.12.95-1"))
    assert only(broke) == (Status.BROKE, 1, "6.12.90-1 → 6.12.95-1")
    assert broke.exit is Exit.VIOLATED
    assert broke.lines[0].evidence == "run 1 was violated"
    still = summary(nights, night(nights, [attempt(1, RED)], revision="6.12.96-1"))
    assert only(still) == (Status.STILL, 1, "6.12.90-1 → 6.12.96-1")
    fixed = summary(nights, night(nights, [attempt(1, GREEN)], revision="6.12.97-1"))
    assert only(fixed) == (Status.FIXED, 3, "6.12.96-1 → 6.12.97-1")
    same = summary(nights, night(nights, [attempt(1, GREEN)], revision="6.12.98-1"))
    assert only(same) == (Status.SAME, None, "")
    assert only(summary(nights, 2)) == (Status.BROKE, 1, "6.12.90-1 → 6.12.95-1"), "an old night says what it said"


def test_a_night_of_faults_hides_no_breakage(nights: Nights) -> None:
    night(nights, [attempt(1, GREEN)], revision="1")
    fault = summary(nights, night(nights, [attempt(1, FAULT)], revision="2"))
    assert only(fault)[:2] == (Status.BROKE, 1)
    assert only(summary(nights, night(nights, [attempt(1, RED)], revision="3")))[:2] == (Status.BROKE, 1)
    assert only(summary(nights, night(nights, [attempt(1, FAULT)], revision="4")))[:2] == (Status.STILL, 1)


def test_a_known_violation_is_green_and_its_absence_is_not(nights: Nights) -> None:
    night(nights, [attempt(1, RED, known="violated")])
    found = summary(nights, night(nights, [attempt(1, GREEN, known="violated")], revision="2"))
    assert only(found)[0] is Status.BROKE
    assert summary(nights, 1).exit is Exit.CONFIRMED


def test_verdicts_that_differ_within_a_night_are_flaky_with_their_rate(nights: Nights) -> None:
    night(nights, [attempt(1, GREEN)])
    found = summary(nights, night(nights, [attempt(n, RED if n == 3 else GREEN) for n in range(1, 5)], revision="2"))
    [line] = found.lines
    assert (line.status, line.verdict, line.rate, line.nights) == (Status.FLAKY, "flaky", {GREEN: 3, RED: 1}, 1)
    assert line.attempt.number == 3, "the one to look at"
    assert found.exit is Exit.NOT_EXERCISED


def test_verdicts_that_differ_between_nights_on_one_kernel_are_flaky(nights: Nights) -> None:
    for _ in range(3):
        night(nights, [attempt(1, GREEN)])
    found = summary(nights, night(nights, [attempt(1, RED)]))
    [line] = found.lines
    assert (line.status, line.verdict, line.rate, line.nights) == (Status.FLAKY, "violated", {GREEN: 3, RED: 1}, 4)
    assert found.exit is Exit.VIOLATED, "tonight's runs agree"
    [line] = summary(nights, 4, window=2).lines
    assert (line.rate, line.nights) == ({GREEN: 1, RED: 1}, 2)


def test_another_kernel_or_another_scenario_is_no_flakiness(nights: Nights) -> None:
    night(nights, [attempt(1, GREEN)], revision="1")
    assert only(summary(nights, night(nights, [attempt(1, RED)], revision="2")))[0] is Status.BROKE
    found = summary(nights, night(nights, [attempt(1, GREEN)], revision="2", digest="other"))
    assert only(found)[0] is Status.FIXED
    assert found.lines[0].scenario_changed


def test_a_fault_of_the_harness_that_was_got_over_counts_for_nothing(nights: Nights) -> None:
    found = summary(nights, night(nights, [attempt(1, FAULT), attempt(2, GREEN)]))
    assert (found.exit, found.lines[0].now.green, found.lines[0].status) == (Exit.CONFIRMED, True, Status.NEW)
    assert found.lines[0].attempt.number == 2, "the run that counts is the one to look at"
    found = summary(nights, night(nights, [attempt(1, FAULT), attempt(2, FAULT)]))
    assert (found.exit, found.lines[0].verdict) == (Exit.HARNESS_FAULT, "harness fault")


def test_new_and_vanished_lines(nights: Nights) -> None:
    night(nights, [attempt(1, GREEN)], [attempt(1, GREEN)])
    night(nights, [attempt(1, GREEN)], scenarios=["other"], finished=False)
    found = summary(nights, night(nights, [attempt(1, GREEN)], [attempt(1, GREEN)], scenarios=["load", "third"]))
    assert [line.now.line.scenario for line in found.having(Status.NEW)] == ["third"]
    assert [line.scenario for line in found.vanished] == ["demo"], "of the last night that came to its end"


def test_an_unfinished_night_is_not_green(nights: Nights) -> None:
    number = night(nights, [attempt(1, GREEN)], [], finished=False)
    found = summary(nights, number)
    assert (found.missing, found.exit) == (1, Exit.NOT_EXERCISED)
    number = night(nights, [attempt(1, GREEN)], [attempt(1, GREEN)], finished=False)
    found = summary(nights, number)
    assert (found.missing, found.exit) == (0, Exit.NOT_EXERCISED), "of several runs of a cell, one is there"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([GREEN], Exit.CONFIRMED),
        ([RED, RED], Exit.VIOLATED),
        ([RED, GREEN], Exit.NOT_EXERCISED),
        ([FAULT, RED], Exit.VIOLATED),
        ([FAULT], Exit.HARNESS_FAULT),
        ([UNSEEN], Exit.NOT_EXERCISED),
        ([], Exit.NOT_EXERCISED),
    ],
)
def test_the_exit_status_of_a_cell(verdicts: list[Verdict], expected: Exit) -> None:
    assert cell_exit([attempt(number, verdict) for number, verdict in enumerate(verdicts, 1)]) is expected


def test_a_claim_that_changes_hides_no_violation_of_another() -> None:
    def run(number: int, steady: Verdict, other: Verdict) -> Attempt:
        claims = tuple(
            ClaimOutcome(name, verdict, None, verdict is GREEN) for name, verdict in (("a", steady), ("b", other))
        )
        return Attempt(number, 2.0, "/runs", Exit.VIOLATED, "", claims)

    assert cell_exit([run(1, RED, GREEN), run(2, RED, UNSEEN)]) is Exit.VIOLATED
    assert cell_exit([run(1, GREEN, RED), run(2, GREEN, UNSEEN)]) is Exit.NOT_EXERCISED


def test_nights_of_another_matrix_in_one_file_do_not_count(nights: Nights) -> None:
    night(nights, [attempt(1, GREEN)])
    other = Nights(nights.connection, nights.path, "other")
    number = night(other, [attempt(1, RED)], revision="2")
    assert only(summary(other, number))[0] is Status.NEW


# --- what came into a kernel ----------------------------------------------------------------------------------


def kernel(site: Site, commit: str) -> FrozenKernel:
    return FrozenKernel("k", f"git:{site.repository}@{commit}", revision=commit, key=commit[:16])


def test_commits_between_two_nights_are_counted_and_the_newest_named(site: Site) -> None:
    deadline = Deadline.after(60, "a test")
    commits = [site.git("rev-parse", "HEAD"), *(site.commit(f"valid {n}\n", f"change {n}") for n in range(12))]
    found = span(kernel(site, commits[0]), kernel(site, commits[-1]), deadline)
    assert found.text == "12 commits"
    assert found.commits == f"{commits[0][:12]}..{commits[-1][:12]}"
    assert len(found.newest) == 10
    assert found.newest[0].endswith(" change 11")
    assert span(kernel(site, commits[0]), kernel(site, commits[1]), deadline).text == "1 commit"
    assert span(kernel(site, commits[1]), kernel(site, commits[1]), deadline).text == "the same kernel, byte for byte"


def test_a_branch_that_was_rebased_says_what_it_lost(site: Site) -> None:
    before = site.commit("valid a\n", "before")
    site.git("reset", "-q", "--hard", "HEAD~")
    after = [site.commit(f"valid b{n}\n", f"after {n}") for n in range(2)][-1]
    found = span(kernel(site, before), kernel(site, after), Deadline.after(60, "a test"))
    assert found.text == "2 commits, without 1 that were there"


def test_without_the_repository_the_revisions_are_left(site: Site, tmp_path: Path) -> None:
    old, new = (FrozenKernel("k", f"git:{tmp_path}/gone@{sha}", revision=sha) for sha in ("1" * 40, "2" * 40))
    found = span(old, new, Deadline.after(60, "a test"))
    assert found.text.startswith("111111111111 → 222222222222 (")
    assert found.commits == ""


# --- told -----------------------------------------------------------------------------------------------------


def test_the_summary_is_told(nights: Nights) -> None:
    night(nights, [attempt(1, GREEN)], [attempt(1, GREEN)], revision="6.12.90-1")
    number = night(nights, [attempt(1, RED)], [attempt(1, GREEN), attempt(2, RED)], revision="6.12.95-1")
    console = Console(width=160, record=True, file=io.StringIO())
    print_summary(console, summary(nights, number))
    text = console.export_text()
    assert re.search(r"night 2 of nightly, .*: 2 cells, 0.1 min of runs", text)
    assert "night 1: 6.12.90-1 → 6.12.95-1" in text
    broke = (
        "  on k: last green in night 1; since then: 6.12.90-1 → 6.12.95-1\n    undone of load, tcg-svm: violated\n"
    )
    assert f"broke\n{broke}      run 1 was violated\n      /runs/1\n" in text
    rates = "undone: confirmed in 1 of 2 (50 %), violated in 1 of 2 (50 %)"
    assert f"flaky\n  demo on k, tcg-svm, this night\n    {rates}\n      /runs/2\n" in text
    assert "0 of 2 claims are as declared; exit status 1" in text


def test_what_came_to_no_run_is_told_once_for_all_claims(nights: Nights) -> None:
    number = night(nights, *([replace(attempt(1, UNSEEN), folder="")] for _ in range(2)))
    console = Console(width=160, record=True, file=io.StringIO())
    print_summary(console, summary(nights, number))
    text = console.export_text()
    assert "  on k: never seen green\n    2 claims of 2 scenarios: not exercised: run 1 was not exercised\n" in text


def test_the_summary_as_json(nights: Nights) -> None:
    night(nights, [attempt(1, GREEN)])
    document = json.loads(json.dumps(summary(nights, night(nights, [attempt(1, RED)], revision="2")).to_json()))
    [line] = document["lines"]
    assert (document["format"], document["night"], document["exit"]) == (1, 2, 1)
    assert (line["status"], line["verdict"], line["reference"], line["green"]) == ("broke", "violated", 1, False)
    assert line["span"] == {"text": "1 → 2", "commits": "", "newest": []}
    assert document["kernels"][0]["revision"] == "2"
