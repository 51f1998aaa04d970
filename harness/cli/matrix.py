"""`harness matrix`: many kernels, scenarios and engines, night after night."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from harness.cli.outputs import Outputs, other_outputs
from harness.cli.worker import lab_is_missing
from harness.deadline import Deadline
from harness.errors import Exit, UsageError
from harness.fleet.frozen import FrozenKernel
from harness.fleet.matrix import Matrix, load_matrix
from harness.fleet.night import begin, nights_of, only_one, resume
from harness.fleet.nights import Night, Nights
from harness.fleet.pool import LocalPool, Pool
from harness.fleet.report import print_summary
from harness.fleet.saved import saved_runs
from harness.fleet.span import Span, span
from harness.fleet.summary import summarize
from harness.output import STDOUT, require_writable
from harness.report.result import write_json
from harness.report.terminal import results_console

_GIT_S = 120.0  # for counting commits in a large repository


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="MATRIX")
@click.option("--resume", "only_resume", is_flag=True, help="Go on with an unfinished night, if there is one.")
@click.option("--new", is_flag=True, help="Begin a new night, even if one is unfinished.")
@click.option("--summary", "only_summary", is_flag=True, help="Run nothing; print the summary of a night again.")
@click.option(
    "--night", "number", type=click.IntRange(min=1), metavar="N", help="The night for --summary; else the last."
)
@click.option(
    "--scheduler", metavar="tcp://HOST:PORT", help="Run on the workers of this Dask scheduler; see `harness worker`."
)
@click.option("--json", "json_file", metavar="FILE", help='Write the summary as JSON too ("-": stdout).')
@other_outputs
def matrix(
    path: Path,
    only_resume: bool,
    new: bool,
    only_summary: bool,
    number: int | None,
    scheduler: str | None,
    json_file: str | None,
    outputs: Outputs,
) -> int:
    """Run a night: every kernel of MATRIX with every scenario on every engine; say what changed.

    \b
    harness matrix nightly.yaml                        # a night; or the rest of one that was killed
    harness matrix nightly.yaml --summary              # what the last one said
    harness matrix nightly.yaml --summary --night 12 --json night.json
    harness matrix nightly.yaml --scheduler tcp://lab:8786

    \b
    MATRIX is a YAML file:
      kernels:
        - debian:6.12
        - debian:6.12 +state-check-deleted             # with a mutant of the project
        - debian:trixie-backports                      # a suite is asked for its newest kernel
        - {kernel: git:~/linux@master, config: [harness, kvm]}
      scenarios: ["scenarios/*.yaml", "scenarios/races"]
      engines: [auto]                                  # or tcg-svm, tcg-vmx, kvm
      repeat: 1                                        # runs of each cell
      retry: 1                                         # more, until one is as declared

    A branch is resolved to its commit when the night begins. Kernels are built first, each once; one that does
    not build takes only its own cells with it. Each run is recorded in MATRIX.sqlite as it ends: after a crash,
    kill -9 or a reboot of the host, the same command goes on with the rest. Exit status: the night's worst, as for
    `harness run`.
    """
    if number is not None and not only_summary:
        raise UsageError("--night says which night --summary is of", hint="add --summary")
    if sum((only_resume, new, only_summary)) > 1:
        raise UsageError("--resume, --new and --summary exclude each other")
    if json_file:
        require_writable(json_file)
    if json_file == STDOUT and outputs.use_stdout:
        raise UsageError("there is one stdout, and two documents are to go there")
    loaded = load_matrix(path)
    if only_summary and not loaded.database.exists():
        raise UsageError(f"there are no results yet in {loaded.database}", hint=f"harness matrix {path}")
    if only_summary:
        with nights_of(loaded) as nights:
            return _tell(loaded, nights, _chosen(nights, number), json_file, outputs)
    with only_one(loaded), nights_of(loaded) as nights, _pool(loaded, scheduler) as pool:
        night = resume(loaded, nights, pool) if only_resume else begin(loaded, nights, pool, new=new)
        if night is None:
            click.echo(f"no night of {loaded.name} is unfinished", err=True)
            return int(Exit.CONFIRMED)
        try:
            night.run()
        finally:  # what is known so far, also of a night that is interrupted
            status = _tell(loaded, nights, _chosen(nights, night.night), json_file, outputs)
        return status


def _pool(loaded: Matrix, scheduler: str | None) -> AbstractContextManager[Pool]:
    if scheduler is None:
        return nullcontext(LocalPool(None if loaded.jobs == "auto" else loaded.jobs))
    try:
        from harness.fleet.lab import LabPool
    except ImportError as error:
        raise lab_is_missing(error) from error
    return LabPool(scheduler, loaded.patience)


def _chosen(nights: Nights, number: int | None) -> Night:
    known = nights.all()
    if not known:
        raise UsageError(f"there is no night of {nights.matrix} in {nights.path}")
    if number is None:
        return known[-1]
    chosen = next((night for night in known if night.id == number), None)
    if chosen is None:
        numbers = ", ".join(str(night.id) for night in known[-10:])
        raise UsageError(f"there is no night {number} of {nights.matrix}", expected=f"one of the last: {numbers}")
    return chosen


def _tell(loaded: Matrix, nights: Nights, night: Night, json_file: str | None, outputs: Outputs) -> int:
    """Prints the summary and writes the files; returns the exit status."""
    deadline = Deadline.after(_GIT_S, "the commits between two nights")

    def between(old: FrozenKernel, new: FrozenKernel) -> Span:
        return span(old, new, deadline)

    summary = summarize(nights, night, loaded.window, between)
    if json_file != STDOUT and not outputs.use_stdout:
        print_summary(results_console(), summary)
    if json_file:
        write_json(json_file, summary.to_json())
    if outputs.files:
        outputs.write(*saved_runs(nights.cells(night.id), loaded.loaded))
    return int(summary.exit)
