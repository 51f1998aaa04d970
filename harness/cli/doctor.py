"""`harness doctor`: what this machine can do."""

from __future__ import annotations

import dataclasses

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli import options
from harness.deadline import Deadline
from harness.errors import Exit
from harness.machine.doctor import Level, Report, examine
from harness.machine.engine import AUTO, ENGINES, by_name
from harness.machine.host import host_cpu
from harness.report.result import write_json

_PATIENCE_S = 1200.0  # QEMU and a kernel to fetch on a slow line, and one boot per engine

_STYLE = {Level.OK: "green", Level.NOTE: "yellow", Level.NO: "bold red"}


@click.command()
@click.option("--engine", default="all", show_default=True, help="Try only this engine.")
@options.json_file
def doctor(engine: str, json_file: str | None) -> int:
    """Say what this machine can do, and what to do about what it cannot.

    Each engine is tried by starting a guest, which has to boot and to turn virtualization on. The first engine
    that works is what `--engine auto` takes, until the machine is started again.
    """
    engines = ENGINES if engine in ("all", AUTO) else (by_name(engine, host_cpu().vendor),)
    report = examine(engines, Deadline.after(_PATIENCE_S, "the examination"))
    if json_file != "-":
        _show(Console(), report)
    if json_file:
        write_json(json_file, {**dataclasses.asdict(report), "usable": report.usable})
    return int(Exit.CONFIRMED if report.usable else Exit.HARNESS_FAULT)


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
