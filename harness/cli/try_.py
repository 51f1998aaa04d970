"""`harness try`: what a patch from the list changes."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import click

from harness import progress
from harness.cli import options
from harness.errors import HostFault, UsageError, worst_exit
from harness.machine.auto import Tools
from harness.paths import runs_in
from harness.report.result import write_json
from harness.report.terminal import results_console
from harness.run.batch import fitting_workers
from harness.scenario.load import load_scenario, scenario_files
from harness.scenario.model import Scenario
from harness.series.relevance import Chosen, choose
from harness.series.report import print_choice, print_trials, to_json
from harness.series.source import series_of
from harness.series.touched import Touched, touched
from harness.series.trial import build, run_trial, suits, target_of

_MOST = 6  # of 178 seeded bugs, 160 are in reach of the first six scenarios, 166 of all that are chosen
_NAME = 40  # characters of a title in the name of a kernel


@click.command("try")
@click.argument("sources", nargs=-1, required=True, metavar="MBOX|PATCH…|MSGID")
@click.option(
    "--kernel", "kernels", multiple=True, default=("debian:6.12",), show_default=True, metavar="K",
    help="Put the series into this kernel (repeatable).",
)  # fmt: skip
@click.option(
    "--scenario", "paths", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Run this scenario instead of those that the series touches (repeatable).",
)  # fmt: skip
@click.option("--all", "every", is_flag=True, help=f"Run all scenarios that it touches, not just the first {_MOST}.")
@click.option(
    "--list", "only_list", is_flag=True, help="Show what it touches and what would be run, and run nothing."
)
@options.fragments
@options.engine
@click.option(
    "-j", "--jobs", default=1, show_default=True, type=click.IntRange(min=1), metavar="N", help="Runs at a time."
)
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="The trial's folder, which is made.")
@options.json_file
@options.verbose
def try_(
    sources: tuple[str, ...],
    kernels: tuple[str, ...],
    paths: tuple[Path, ...],
    every: bool,
    only_list: bool,
    fragments: tuple[str, ...],
    engine: str,
    jobs: int,
    folder: Path | None,
    json_file: str | None,
    verbose: bool,
) -> int:
    """Say what a patch or series changes: per claim, without and with it.

    Of a mailbox the newest version of the series is taken, in its order, without replies. Only what changed is built:
    of a debian: kernel its KVM modules. The scenarios are those about the functions that the diff touches. Each runs
    on the kernel without and with the series.

    \b
    harness try thread.mbox --kernel debian:6.12
    harness try 0001-KVM-fix.patch 0002-KVM-more.patch --kernel debian:6.12 --kernel debian:7.3
    harness try 20240425233951.3344485-3-seanjc@google.com --kernel debian:6.12 --list
    harness try fix.patch --kernel git:~/linux@kvm-x86/next --config harness --config kvm -j2

    Exit status 1 when a claim is violated with the series, unless the kernel is known to violate it without.
    """
    series = series_of(sources)
    for note in series.notes:
        progress.note(note)
    slug = _slug(series.title)
    folder = (folder or Path("try") / f"{time.strftime('%Y%m%dT%H%M%S')}-{slug}").resolve()
    mbox = folder / f"{slug}.mbox"
    what = touched(mail.patch for mail in series.mails)
    tools = Tools(engine)
    console = results_console()
    plans = []
    for kernel in kernels:
        target = target_of(kernel, series, mbox, fragments)
        chosen = _chosen(_loaded(paths), target.spec, what, given=bool(paths))
        most = len(chosen) if every or paths else _MOST
        plans.append((target, chosen[:most], len(chosen[most:])))
        if json_file != "-":
            print_choice(console, series, what, chosen[:most], len(chosen[most:]))
    if only_list:
        return 0
    _make(folder)
    mbox.write_bytes(series.mbox())
    for target, _, _ in plans:
        build(target, series)
    with runs_in(folder / "runs"):
        workers = 1 if jobs == 1 else fitting_workers([one.scenario for _, some, _ in plans for one in some], jobs)
        trials = [run_trial(target, chosen, left_out, tools, workers) for target, chosen, left_out in plans]
    write_json(str(folder / "try.json"), to_json(series, what, trials))
    if json_file:
        write_json(json_file, to_json(series, what, trials))
    if json_file != "-":
        print_trials(console, trials, verbose)
    return int(worst_exit([trial.exit for trial in trials]))


def _loaded(paths: Sequence[Path]) -> list[Scenario]:
    return [load_scenario(path) for path in paths or scenario_files()]


def _chosen(scenarios: Sequence[Scenario], spec: str, what: Touched, *, given: bool) -> list[Chosen]:
    """Raises UsageError when no scenario is for the kernel."""
    if given:
        return [Chosen(scenario, ("named with --scenario",)) for scenario in scenarios]
    suited = [scenario for scenario in scenarios if suits(scenario, spec)]
    if not suited:
        raise UsageError(f"no scenario of the project is for {spec}", hint="name one of yours with --scenario")
    return choose(suited, what)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise UsageError(f"{folder} is there already", hint="name another with --dir") from error
    except OSError as error:
        raise HostFault(f"cannot make {folder}: {error.strerror}") from error


def _slug(title: str) -> str:
    """A title as the name of a file, and of the kernel in tables."""
    words = re.sub(r"[^a-z0-9]+", "-", title.lower().removesuffix(".patch").removesuffix(".mbox")).strip("-")
    return words if len(words) <= _NAME else words[:_NAME].rpartition("-")[0] or words[:_NAME]
