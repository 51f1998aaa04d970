"""`harness run`: scenarios to verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import click

from harness import progress
from harness.cache import reading_only
from harness.cli import complete, options
from harness.cli.outputs import Outputs, outputs
from harness.display import Level
from harness.errors import Exit, HarnessError, UsageError, worst_exit
from harness.kernels.model import BuildOptions
from harness.machine import toolchain
from harness.machine.auto import Tools
from harness.mutants.named import kernel_of
from harness.report.folders import write_batch
from harness.report.repeats import print_disagreements, repeats
from harness.report.result import NotRun, RunResult
from harness.report.terminal import print_results, results_console
from harness.run import Job
from harness.run.batch import fitting_workers, run_jobs
from harness.run.holders import CHOICES, HoldsChoice
from harness.run.inspection import PAUSES, PauseOn
from harness.run.plan import plan
from harness.scenario.load import REFERENCE_CLAIMS, load_scenario, scenario_files
from harness.scenario.model import Scenario


def _at_a_time(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """None for `auto`."""
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number from 1 on nor auto")
    return int(value)


@click.command()
@click.argument(
    "scenarios",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
    metavar="SCENARIO…",
    shell_complete=complete.scenarios,
)
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    metavar="K",
    shell_complete=complete.kernels,
    help="Run on this kernel, not the scenario's (repeatable).",
)
@options.engine
@options.patches
@options.fragments
@options.modules_only
@click.option("--cold", is_flag=True, help="Boot for every run, even where a snapshot of the booted guest would do.")
@click.option(
    "--holds",
    type=click.Choice(CHOICES),
    default="auto",
    show_default=True,
    help="What holds tasks at points; auto: the plugin where it can, else QEMU's gdbstub.",
)
@click.option(
    "--repeat", default=1, show_default=True, type=click.IntRange(min=1), metavar="N", help="Run each N times."
)
@click.option(
    "-j",
    "--jobs",
    "at_a_time",
    default="1",
    show_default=True,
    metavar="N",
    callback=_at_a_time,
    help="Runs at a time; auto: one per CPU of this host, as far as there is memory.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print what would be done, and the QEMU command; boot and build nothing."
)
@click.option("--keep", is_flag=True, help="Leave each guest for inspection when its run is judged, and wait.")
@click.option(
    "--pause-on",
    multiple=True,
    type=click.Choice([pause for pause in PAUSES if pause != "end"]),
    help="The same only for runs that come to this (repeatable).",
)
@outputs
@options.telling
@options.quiet
def run(
    scenarios: tuple[Path, ...],
    kernels: tuple[str, ...],
    engine: str,
    patches: tuple[Path, ...],
    fragments: tuple[str, ...],
    modules_only: str,
    cold: bool,
    holds: HoldsChoice,
    repeat: int,
    at_a_time: int | None,
    dry_run: bool,
    keep: bool,
    pause_on: tuple[PauseOn, ...],
    outputs: Outputs,
    verbose: bool,
) -> int:
    """Run scenarios and print a verdict per claim.

    \b
    harness run scenarios/demo.yaml
    harness run scenarios/load-unload.yaml --kernel debian:6.12
    harness run scenarios/load-unload.yaml --kernel "debian:6.12 +check-at-entry"
    harness run scenarios/load-unload.yaml --repeat 20 -j auto
    harness run scenarios/load-unload.yaml --dry-run
    harness run scenarios/load-unload.yaml --pause-on violated
    harness run scenarios/*.yaml --junit results.xml --ktap results.ktap
    harness run scenarios/*.yaml --kernel debian:6.12 --patch series.mbox --modules-only kvm
    harness run scenarios/load-unload.yaml --kernel git:~/linux@my-branch --config harness
    """
    loaded = [variant for path in _expanded(scenarios) for variant in load_scenario(path).variants()]
    build = BuildOptions(patches, fragments, modules_only)
    chosen = [
        (scenario, *kernel_of(scenario, kernel, build))
        for scenario in loaded
        for kernel in kernels or scenario.kernels
    ]
    always: tuple[PauseOn, ...] = ("end",) if keep else ()
    pauses = frozenset((*pause_on, *always))
    if pauses and at_a_time != 1:
        raise UsageError("a run that waits for you runs alone", hint="leave out -j, or --keep and --pause-on")
    if dry_run:
        return _print_plans(chosen, engine, partial(Job, cold=cold, holds=holds))
    tools = Tools(engine)
    job = partial(Job, qemu=tools.qemu, cold=cold, holds=holds, pause_on=pauses)
    jobs = [
        job(scenario, kernel, tools.engine(scenario.machine), options=with_mutant)
        for scenario, kernel, with_mutant in chosen
        for _ in range(repeat)
    ]
    results: dict[int, RunResult] = {}
    try:
        for index, result in run_jobs(jobs, 1 if at_a_time == 1 else fitting_workers(loaded, at_a_time)):
            results[index] = result
        why = ""
    except BaseException as error:
        why = error.what if isinstance(error, HarnessError) else "the batch was interrupted"
        raise
    finally:  # a batch that ends early keeps what it has
        ordered = [results[index] for index in sorted(results)]
        groups = repeats(ordered)
        if results and not outputs.use_stdout:
            console = results_console()
            print_results(console, [run for group in groups for run in group.samples], verbose)
            print_disagreements(console, groups)
        missing = _not_run(jobs, results, why)
        outputs.write(ordered, missing)
        if results and len(jobs) > 1:
            _index(ordered, missing)
    return int(worst_exit([group.exit for group in groups]))


def _index(results: Sequence[RunResult], missing: Sequence[NotRun]) -> None:
    """Writes the index of a batch. That it cannot be written is no verdict, and hides none."""
    try:
        progress.note(f"the index of these runs: {write_batch(results, missing)}")
    except HarnessError as error:
        progress.note(f"there is no index of these runs: {error}")


def _print_plans(chosen: Iterable[tuple[Scenario, str, BuildOptions]], engine: str, job: Callable[..., Job]) -> int:
    """Prints the plan of each run. Nothing was seen, so nothing is confirmed: the exit status only says that it can
    be run."""
    progress.set_level(Level.QUIET)  # what begins here is not done
    with reading_only():
        tools = Tools(engine, toolchain.foreseen())
        for scenario, kernel, options in chosen:
            found, why = tools.foreseen(scenario.machine)
            for line in plan(job(scenario, kernel, found, tools.qemu, options), why).lines():
                print(line)
    return int(Exit.CONFIRMED)


def _not_run(jobs: Sequence[Job], results: Mapping[int, RunResult], why: str) -> list[NotRun]:
    """The jobs that a batch did not come to, or not to the end of."""
    return [
        NotRun(job.scenario.name, job.scenario.title, job.label, job.engine.name, tuple(job.scenario.claims), why)
        for index, job in enumerate(jobs)
        if index not in results
    ]


def _expanded(paths: tuple[Path, ...]) -> list[Path]:
    """The scenario files that are meant; a folder means all of its own, and `*.yaml` not the list of claims."""
    files = [file for path in paths for file in (scenario_files(path) if path.is_dir() else [path])]
    return [file for file in files if file.name != REFERENCE_CLAIMS.name]
