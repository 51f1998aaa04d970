"""`harness bisect`: which commit broke a claim."""

from __future__ import annotations

import time
from pathlib import Path

import click

from harness import progress
from harness.bisection.bisection import Bisection
from harness.bisection.history import History
from harness.bisection.plan import Plan
from harness.bisection.report import print_bisection, to_json, write_summary
from harness.cli import options
from harness.errors import HostFault, UsageError
from harness.machine.auto import Tools
from harness.report.result import write_json
from harness.report.terminal import results_console


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Path(path_type=Path), metavar="SCENARIO…")
@click.option("--good", metavar="REV", help="A revision on which the claims are confirmed.")
@click.option("--bad", metavar="REV", help="A revision on which one of them is violated.")
@click.option("--tree", type=click.Path(path_type=Path), metavar="PATH", help="The git repository. It is only read.")
@click.option(
    "--kernel",
    default="",
    metavar="K",
    help="Build no revision whole: put what has changed since --good into this kernel. Of a debian: kernel only the "
    "KVM modules are built, in seconds.",
)
@options.fragments
@click.option("--claim", "claims", multiple=True, metavar="ID", help="Only this claim counts (repeatable).")
@click.option(
    "--repeat",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Run each revision N times; one violation makes it bad.",
)
@options.engine
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="The bisection's folder, which is made.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="DIR", help="Go on with the bisection in DIR.")
@options.json_file
def bisect(
    scenarios: tuple[Path, ...],
    good: str | None,
    bad: str | None,
    tree: Path | None,
    kernel: str,
    fragments: tuple[str, ...],
    claims: tuple[str, ...],
    repeat: int,
    engine: str,
    folder: Path | None,
    resume: Path | None,
    json_file: str | None,
) -> int:
    """Find the commit that broke a claim, by `git bisect run`.

    First the good and the bad revision are tested: what the one confirms and the other violates is bisected. A
    revision is bad when one of these claims is violated, good when all are confirmed; one that does not build, does
    not boot, or on which a claim is not exercised is skipped. Git searches in a worktree of its own: your checkout,
    index and branches stay as they are. After ^C, --resume goes on.

    \b
    harness bisect --good v6.12.90 --bad v6.12.95 --tree ~/linux --config harness --config kvm scenarios/reboot.yaml
    harness bisect --good 6.12-base --bad my-branch --tree ~/linux --kernel debian:6.12 scenarios/load-unload.yaml
    harness bisect --good a1b2c3 --bad HEAD --tree ~/linux --kernel debian-source:7.3+tdx scenarios/tdx/bring-up.yaml
    harness bisect --resume bisect/20261123T070000-a1b2c3d4e5f6

    Exit status 0 when the first bad commit was found, 4 when it is one of several that could not be told apart, or
    one of the revisions says nothing, 2 when --good and --bad are not what they are said to be.
    """
    if resume is not None:
        if scenarios or good or bad or tree:
            raise UsageError("--resume goes on with what was asked for; leave the rest out")
        bisection = Bisection.load(resume)
    else:
        if not (scenarios and good and bad and tree):
            raise UsageError("a bisection needs --good, --bad, --tree and a scenario", hint="harness bisect --help")
        files = tuple(str(path.resolve()) for path in scenarios)
        history = History(tree.resolve())
        ends = history.commit(good).id, history.commit(bad).id
        configs = tuple(str(Path(name).resolve()) if "/" in name else name for name in fragments)
        bisection = _begun(Plan(str(history.path), *ends, files, engine, kernel, configs, claims, repeat), folder)
    try:
        bisection.verify()
        found = bisection.search()
    except (KeyboardInterrupt, HostFault):
        progress.note(f"to go on: harness bisect --resume {bisection.folder}")
        raise
    write_json(str(bisection.folder / "bisect.json"), to_json(bisection, found))
    write_summary(bisection, found)
    if json_file:
        write_json(json_file, to_json(bisection, found))
    if json_file != "-":
        print_bisection(results_console(), bisection, found)
    return int(found.exit)


def _begun(plan: Plan, folder: Path | None) -> Bisection:
    """A new bisection, in a folder of its own. What is wrong is found before anything is made."""
    for scenario in plan.loaded():
        Tools(plan.engine).engine(scenario.machine)
    plan.check()
    folder = folder or Path("bisect") / f"{time.strftime('%Y%m%dT%H%M%S')}-{plan.bad[:12]}"
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise UsageError(f"{folder} is there already", hint=f"harness bisect --resume {folder}") from error
    except OSError as error:
        raise HostFault(f"cannot make {folder}: {error.strerror}") from error
    plan.save(folder)
    return Bisection(folder.absolute(), plan)
