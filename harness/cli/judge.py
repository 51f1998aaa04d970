"""`harness judge`: verdicts of saved runs, once more."""

from __future__ import annotations

from pathlib import Path

import click

from harness import progress
from harness.cli import options
from harness.cli.outputs import Outputs, outputs
from harness.errors import Exit, worst_exit
from harness.judge.judge import judge as judge_record
from harness.judge.record import load_record
from harness.report.folders import missing_runs, run_folders
from harness.report.result import RunResult
from harness.report.terminal import print_results, results_console


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN…")
@outputs
@options.verbose
def judge(runs: tuple[Path, ...], outputs: Outputs, verbose: bool) -> int:
    """Judge saved runs again, from their folders; boots nothing.

    Edit RUN/scenario.yaml to ask the same run another question.

    \b
    harness judge runs/20261122T231743-life-of-a-vm-debian-6.1-tcg-svm -v
    harness judge runs/* --junit results.xml --ktap results.ktap
    """
    results = []
    for folder in run_folders(runs):
        record = load_record(folder)
        results.append(RunResult.of(record, judge_record(record), seconds=0.0))
    if not outputs.use_stdout:
        print_results(results_console(), results, verbose)
    missing = missing_runs(runs)
    outputs.write(results, missing)
    for one in missing:
        progress.note(f"{one.scenario} on {one.column} was not run: {one.why}")
    return int(worst_exit([*(result.exit for result in results), *(Exit.NOT_EXERCISED for _ in missing)]))
