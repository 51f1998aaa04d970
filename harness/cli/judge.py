"""`harness judge`: verdicts of saved runs, once more."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options
from harness.errors import worst_exit
from harness.judge.judge import judge as judge_record
from harness.judge.record import load_record
from harness.report.result import RunResult, write_json
from harness.report.terminal import print_results, results_console


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN…")
@options.json_file
@options.verbose
def judge(runs: tuple[Path, ...], json_file: str | None, verbose: bool) -> int:
    """Judge saved runs again, from their folders; boots nothing.

    Edit RUN/scenario.yaml to ask the same run another question.
    """
    results = []
    for folder in runs:
        record = load_record(folder)
        results.append(RunResult.of(record, judge_record(record), seconds=0.0))
    if json_file != "-":
        print_results(results_console(), results, verbose)
    if json_file:
        write_json(json_file, [result.to_json() for result in results])
    return int(worst_exit([result.exit for result in results]))
