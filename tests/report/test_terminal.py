"""What a person sees: the table, and the lanes of a contradiction."""

from __future__ import annotations

import dataclasses
import io

from rich.console import Console

from harness.judge.judge import judge
from harness.judge.record import RunRecord
from harness.report.lanes import describe
from harness.report.result import RunResult
from harness.report.terminal import print_results
from tests.judge.records import event, record, step

ORDER = "  - order: [on@each, late]\n"


def printed(*records: RunRecord, verbose: bool = False) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    print_results(console, [RunResult.of(run, judge(run), 1.5) for run in records], verbose)
    return console.export_text()


def test_a_violation_is_shown_as_lanes_in_the_columns_of_their_cpus() -> None:
    events = [*step("load", 1, 90), event(10, 0, "on"), event(15, 0, "late"), event(16, 1, "on")]
    text = printed(record(ORDER, events))
    assert "violated" in text
    assert "it holds" in text  # the claim's text
    lines = text.splitlines()
    header = next(line for line in lines if "seq" in line and "CPU 1" in line)
    late = next(line for line in lines if "→ late" in line)
    other = next(line for line in lines if "→ on" in line)
    assert late.index("→") == header.index("CPU 0")
    assert other.index("→") == header.index("CPU 1")
    assert lines.index(late) < lines.index(other)


def test_evidence_of_confirmed_claims_is_shown_on_demand() -> None:
    run = record(ORDER, [event(10, 0, "on"), event(11, 1, "on"), event(15, 0, "late")])
    assert "on@each < late" not in printed(run)
    assert "on@each < late" in printed(run, verbose=True)


def test_a_verdict_is_put_into_words_only_where_it_is_the_declared_one() -> None:
    good = record(ORDER, [event(10, 0, "on"), event(11, 1, "on"), event(15, 0, "late")])
    bad = record(ORDER, [event(10, 0, "on"), event(15, 0, "late"), event(16, 1, "on")])
    for run, shown in ((good, True), (bad, False)):
        use = run.scenario.claims[0].model_copy(update={"means": {str(run.kernel["label"]): "all is well"}})
        scenario = run.scenario.model_copy(update={"claims": [use]})
        assert ("all is well" in printed(dataclasses.replace(run, scenario=scenario))) is shown


def test_runs_of_one_cell_that_differ_are_all_in_the_table() -> None:
    good = record(ORDER, [event(10, 0, "on"), event(11, 1, "on"), event(15, 0, "late")])
    bad = record(ORDER, [event(10, 0, "on"), event(15, 0, "late"), event(16, 1, "on")])
    table = printed(bad, good, good).partition("└")[0]
    assert (table.count("violated"), table.count("confirmed")) == (1, 1)


def test_brackets_of_the_kernel_are_no_markup() -> None:
    events = [event(10, 0, "on"), event(15, 0, "late", state="[/bold] [red]x"), event(16, 1, "on")]
    assert "→ late state=[/bold] [red]x" in printed(record(ORDER, events))


def test_what_led_to_a_wrong_state_is_shown_as_lanes() -> None:
    expect = ORDER + "  - exit: {load: EBUSY}\n"
    run = record(expect, [event(10, 0, "on"), event(11, 1, "on"), event(15, 0, "late")])
    text = printed(run)
    assert "load gave OK, not EBUSY" in text and "→ late" in text


def test_json_carries_the_events_that_prove_a_finding() -> None:
    run = record(ORDER, [event(10, 0, "on"), event(15, 0, "late"), event(16, 1, "on")])
    data = RunResult.of(run, judge(run), 1.5).to_json()
    assert data["exit"] == 1
    (claim,) = data["claims"]
    assert [proof["seq"] for proof in claim["findings"][0]["events"]] == [15, 16]


def test_a_seamcall_is_shown_by_leaf_and_outcome() -> None:
    done = event(10, 0, "seamcall", "point", ret=0, leaf="TDH.SYS.INIT", rcx="0x0", status="TDX_SUCCESS")
    faulted = event(11, 0, "seamcall", "point", leaf="TDH.SYS.DISABLE", fault="UD")
    assert describe(done) == "· seamcall TDH.SYS.INIT = TDX_SUCCESS"
    assert describe(faulted) == "· seamcall TDH.SYS.DISABLE = UD"
