"""`harness report`: what saved runs have to say, for people and for other programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from harness.errors import UsageError
from harness.judge.judge import judge
from harness.judge.record import RunRecord, load_record
from harness.judge.verdict import Judgement
from harness.output import STDOUT, require_writable, write_output
from harness.report.batch import Batch
from harness.report.chrome_trace import TRACE, chrome_trace
from harness.report.folders import missing_runs, run_folders
from harness.report.formats import FORMATS
from harness.report.html import INDEX, REPORT, index_page, run_page
from harness.report.result import RunResult
from harness.report.text import text_report
from harness.report.timeline import timeline


@dataclass(frozen=True)
class Judged:
    """A saved run and what it says."""

    record: RunRecord
    judgement: Judgement

    @property
    def result(self) -> RunResult:
        return RunResult.of(self.record, self.judgement, seconds=0.0)


def _html(run: Judged) -> str:
    return run_page(run.record, run.judgement)


def _trace(run: Judged) -> str:
    trace = chrome_trace(run.record, timeline(run.record, run.judgement))
    return json.dumps(trace, ensure_ascii=False) + "\n"


def _text(runs: Sequence[Judged]) -> str:
    return "\n".join(text_report(run.record, run.judgement) for run in runs)


# A file in each run's folder; all other formats are one document of all runs.
_FILES: dict[str, tuple[str, Callable[[Judged], str]]] = {"html": (REPORT, _html), "trace": (TRACE, _trace)}
_TEXT = "text"


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FOLDER…")
@click.option(
    "--format",
    "name",
    type=click.Choice([*_FILES, _TEXT, *FORMATS]),
    default="html",
    show_default=True,
    help="html: pages; trace: for ui.perfetto.dev; text: for a mail; the others: for other programs.",
)
@click.option("-o", "--output", metavar="FILE", help='Write to this file ("-": stdout).')
def report(paths: tuple[Path, ...], name: str, output: str | None) -> int:
    """Make reports of saved runs, from their folders; boots nothing.

    FOLDER is that of a run, of a batch (`harness run` makes one where there are several runs), or one with runs in
    it. A page is report.html in its run's folder, with an index.html of several; a trace is trace.json in the run's
    folder. Other formats are one document of all runs, and go to stdout.

    \b
    harness report runs/20261122T231743-life-of-a-vm-debian-6.1-tcg-svm
    harness report runs/20261122T231743-life-of-a-vm-debian-6.1-tcg-svm --format text
    harness report runs/20261123T090000-batch
    harness report runs/* --format junit -o results.xml
    """
    if output is not None:
        require_writable(output)
    folders = run_folders(paths)
    if name in _FILES and len(folders) == 1:
        _write(folders[0], name, output)
    elif name in _FILES:
        _write_all(folders, name, output, paths)
    else:
        runs = [_judged(folder) for folder in folders]
        text = (
            _text(runs)
            if name == _TEXT
            else FORMATS[name].render(Batch([run.result for run in runs], missing_runs(paths)))
        )
        write_output(output or STDOUT, text)
    return 0


def _judged(folder: Path) -> Judged:
    record = load_record(folder)
    return Judged(record, judge(record))


def _write(folder: Path, name: str, output: str | None = None) -> Judged:
    """Writes a run's file, and says where, unless it was said where to."""
    file, render = _FILES[name]
    run = _judged(folder)
    write_output(output or str(folder / file), render(run))
    if output is None:
        click.echo(folder / file)
    return run


def _write_all(folders: Sequence[Path], name: str, output: str | None, paths: Sequence[Path]) -> None:
    """Writes a file per run; of pages an index, into the folder that has them all where not said otherwise."""
    if name != "html":
        if output is not None:
            raise UsageError(f"{len(folders)} runs do not fit into one {name}", hint="name one run, or leave -o out")
        for folder in folders:
            _write(folder, name)
        return
    parents = {folder.resolve().parent for folder in folders}
    if len(paths) == 1:
        index = paths[0] / INDEX
    elif len(parents) == 1:
        index = folders[0].parent / INDEX
    elif output is None:
        raise UsageError("these runs have no folder in common to put their index into", hint="-o FILE says where")
    index = Path(output) if output is not None else index
    results = [_write(folder, name).result for folder in folders]
    write_output(str(index), index_page(results, index.parent, missing_runs(paths)))
    if output is None:
        click.echo(index)
