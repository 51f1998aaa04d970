"""`harness doctor`: what this machine can do."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli import options
from harness.deadline import Deadline
from harness.errors import Exit, HarnessError, worst_exit
from harness.machine.auto import Tools
from harness.machine.doctor import Level, Report, examine
from harness.machine.engine import AUTO, ENGINES, by_name
from harness.machine.host import host_cpu, this_host
from harness.machine.sheet import sheet
from harness.output import require_writable, write_output
from harness.report.confirmation import confirmation
from harness.report.result import RunResult, write_json
from harness.report.terminal import print_results, results_console
from harness.run.batch import run_jobs
from harness.run.confirmation import confirming
from harness.version import harness_version

_PATIENCE_S = 1200.0  # QEMU and a kernel to fetch on a slow line, and one boot per engine

_ALL = "all"
_STYLE = {Level.OK: "green", Level.NOTE: "yellow", Level.NO: "bold red"}


@click.command()
@click.option("--engine", default=_ALL, show_default=True, help="Try only this engine.")
@click.option("--confirm", metavar="FILE", help="Run a few scenarios on it as well, and write a report to mail.")
@options.json_file
def doctor(engine: str, confirm: str | None, json_file: str | None) -> int:
    """Say what this machine can do, and what to do about what it cannot.

    Each engine is tried by starting a guest, which has to boot and to turn virtualization on. The first engine
    that works is what `--engine auto` takes, until the machine is started again.

    \b
    harness doctor
    harness doctor --engine kvm --confirm kvm.txt
    """
    engines = ENGINES if engine in (_ALL, AUTO) else (by_name(engine, host_cpu().vendor),)
    if confirm:
        require_writable(confirm)
    report = examine(engines, Deadline.after(_PATIENCE_S, "the examination"))
    if "-" not in (json_file, confirm):
        _show(Console(), report)
    if json_file:
        write_json(json_file, {**dataclasses.asdict(report), "usable": report.usable})
    usable = Exit.CONFIRMED if report.usable else Exit.HARNESS_FAULT
    if not confirm:
        return int(usable)
    return int(worst_exit([usable, *_confirm(AUTO if engine == _ALL else engine, report, confirm)]))


def _confirm(engine: str, report: Report, target: str) -> list[Exit]:
    """Runs, and writes the report; how the runs ended. What keeps them from being is a part of the report."""
    results: list[RunResult] = []
    fault: HarnessError | None = None
    told = "interrupted"  # whatever else ends it
    try:
        jobs = list(confirming(Tools(engine)))
        results += (result for _, result in run_jobs(jobs, 1))
        told = ""
    except HarnessError as error:
        fault, told = error, str(error)
    finally:
        modules = tuple(dict.fromkeys(row.extension.module for row in ENGINES))
        facts = sheet(this_host(modules), Path("/proc/cpuinfo").read_text())
        write_output(target, confirmation(harness_version(), facts, report, results, told))
    if results and target != "-":
        print_results(results_console(), results)
    return [*(result.exit for result in results), *([fault.exit] if fault else [])]


def _show(console: Console, report: Report) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "what", "found"):
        table.add_column(heading, overflow="fold")
    for proof in report.engines:
        level = Level.OK if proof.works else Level.NOTE
        more = f" ({proof.seconds} s)" if proof.works else f"; expected: {proof.expected}" if proof.expected else ""
        _row(table, level, f"engine {proof.engine}", proof.text + more, proof.advice)
    for check in report.checks:
        _row(table, check.level, check.name, check.found, check.advice)
    console.print(table)
    auto = next((proof.engine for proof in report.engines if proof.works), None)
    console.print(f"\nengine auto: {auto}" if auto else "\nno engine works here", style="bold", highlight=False)


def _row(table: Table, level: Level, what: str, found: str, advice: str) -> None:
    text = Text(found)
    if advice:
        text.append(f"\n→ {advice}", style="italic")
    table.add_row(Text(level.value, style=_STYLE[level]), Text(what), text)
