"""`harness bench`: how long things take here."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import click
from rich.console import Console

from harness.bench import turns
from harness.bench.report import Conditions, document, print_table
from harness.bench.sections import SECTIONS
from harness.bench.setup import Setup
from harness.cli import options
from harness.errors import Exit
from harness.report.result import write_json


@click.command()
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="How often each thing is run."
)
@click.option(
    "--only", "names", multiple=True, type=click.Choice(list(SECTIONS)), help="Measure only this (repeatable)."
)
@options.engine
@options.json_file
def bench(rounds: int, names: tuple[str, ...], engine: str, json_file: str | None) -> int:
    """Measure boots, runs, holds and builds on this machine, and compare with virtme-ng and with an emulated lab.

    What is compared is run in turn. virtme-ng is installed from PyPI into the cache. `virtme-ng`, `platform` and the
    reboot race have engines of their own. Exit status 3 when something could not be measured; a target that is missed
    is not an error.
    """
    load_before = os.getloadavg()[0]
    # Guests' images and objects of compilations do not fit everywhere into /tmp; $TMPDIR moves them.
    with (
        tempfile.TemporaryDirectory(prefix="harness-bench.") as folder,
        contextlib.ExitStack() as cleanup,
    ):
        setup = Setup(Path(folder), engine, cleanup)
        results = [turns.measure(SECTIONS[name](setup), rounds) for name in names or SECTIONS]
    conditions = Conditions.since(load_before)
    if json_file != "-":
        print_table(Console(), results, conditions)
    if json_file:
        write_json(json_file, document(results, conditions))
    return int(Exit.HARNESS_FAULT if any(section.missing for section in results) else Exit.CONFIRMED)
