"""The runs of a night as reports want them: read from their folders, and judged again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import UsageError
from harness.fleet.nights import Attempt, NightCell
from harness.judge.judge import judge
from harness.judge.record import load_record
from harness.report.result import NotRun, RunResult
from harness.scenario.model import Scenario


def saved_runs(cells: Sequence[NightCell], scenarios: Mapping[str, Scenario]) -> tuple[list[RunResult], list[NotRun]]:
    """The runs whose folders are there, and why of the others there is none.

    Of a scenario that is in the matrix no more, a run without a folder cannot be told.
    """
    results: list[RunResult] = []
    not_run: list[NotRun] = []
    for one in cells:
        for attempt in one.attempts:
            result = _read(attempt)
            if result is not None:
                results.append(result)
            elif one.cell.scenario in scenarios:
                not_run.append(_missing(one, scenarios[one.cell.scenario], attempt.fault or "its folder is gone"))
        if not one.attempts and one.cell.scenario in scenarios:
            not_run.append(_missing(one, scenarios[one.cell.scenario], "the night has not come to its end"))
    return results, not_run


def _read(attempt: Attempt) -> RunResult | None:
    if not attempt.folder:
        return None
    try:
        record = load_record(Path(attempt.folder))
    except UsageError:
        return None
    return RunResult.of(record, judge(record), attempt.seconds)


def _missing(one: NightCell, scenario: Scenario, why: str) -> NotRun:
    return NotRun(
        scenario.name,
        scenario.title,
        one.cell.kernel,
        one.cell.engine,
        tuple(scenario.claims),
        why.partition("\n")[0],
    )
