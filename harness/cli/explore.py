"""`harness explore`: every interleaving of a few activities."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from harness import progress
from harness.cli import options
from harness.errors import Exit, HostFault, UsageError
from harness.explore.activities import ACTIVITIES
from harness.explore.campaign import Campaign
from harness.explore.plan import Plan
from harness.explore.report import Discovery, discoveries, exit_of, print_exploration, to_json
from harness.machine.auto import Tools
from harness.machine.engine import AUTO
from harness.report.result import write_json
from harness.report.terminal import results_console
from harness.scenario.machine import MachineSection

_NAMES = "\n".join(f"  {activity.name:9} {activity.about}" for activity in ACTIVITIES.values())


@click.command(epilog=f"\b\nActivities:\n{_NAMES}")
@click.argument("activities", nargs=-1, metavar="ACTIVITY ACTIVITY [ACTIVITY]")
@click.option("--kernel", default="debian:6.12", show_default=True, metavar="K", help='Also "SPEC +MUTANT".')
@click.option("--engine", default=AUTO, show_default=True, help="tcg-svm, tcg-vmx, kvm; auto prefers VMX.")
@options.patches
@click.option(
    "--points",
    multiple=True,
    metavar="A=F,…",
    help="Hold activity A at these functions instead: load=kvm_init,register_syscore.return (repeatable).",
)
@click.option("--all", "every", is_flag=True, help="Also run schedules that are equivalent to another.")
@click.option("--first", is_flag=True, help="Stop when something was broken.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N schedules; --resume goes on.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="What also breaks in the exploration in DIR, of the kernel without a patch, is known: report what is new.",
)
@click.option(
    "-j", "--jobs", default=1, show_default=True, type=click.IntRange(min=1), metavar="N", help="Runs at a time."
)
@click.option("--list", "only_list", is_flag=True, help="Record and show the points and count, and run nothing.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="The exploration's folder, which is made.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="DIR", help="Go on with the exploration in DIR.")
@options.json_file
def explore(
    activities: tuple[str, ...],
    kernel: str,
    engine: str,
    patches: tuple[Path, ...],
    points: tuple[str, ...],
    every: bool,
    first: bool,
    limit: int | None,
    baseline: Path | None,
    jobs: int,
    only_list: bool,
    folder: Path | None,
    resume: Path | None,
    json_file: str | None,
) -> int:
    """Run every interleaving of two or three activities, and report what breaks.

    Each activity can be held at a few points of the kernel. A schedule lets one of them go on to its next point at a
    time, while the others stand; all of them are run, but those that are equivalent to another or turn out to be
    impossible. Whatever breaks is reported with a scenario that does it again: `harness run` takes it. What has been
    run is kept: after ^C, --resume goes on.

    \b
    harness explore load reboot --kernel debian:6.12 -j2
    harness explore vm reboot --kernel debian:6.1
    harness explore load reboot --kernel "debian:6.12 +check-before-register" --first
    harness explore load offline --patch series.mbox --points offline=takedown_cpu,cpuhp_kick_ap
    harness explore --resume explore/20261123T050000-load-reboot-debian-6.12
    """
    if resume is not None:
        campaign = _resumed(resume)
    else:
        applied = tuple(str(path.resolve()) for path in patches)
        plan = Plan(activities, kernel, engine, applied, points, every, str(baseline.resolve()) if baseline else "")
        campaign = _begun(plan, folder)
    campaign.record()
    found: list[Discovery] = []
    try:
        if not only_list:
            campaign.explore(jobs, first, limit)
            found = _repeated(campaign, discoveries(campaign))
        if json_file:
            write_json(json_file, to_json(campaign, found))
    except KeyboardInterrupt:
        progress.note(f"to go on: harness explore --resume {campaign.folder}")
        raise
    finally:
        if json_file != "-":
            print_exploration(results_console(), campaign, found or discoveries(campaign))
    return int(Exit.CONFIRMED if only_list else exit_of(campaign))


def _begun(plan: Plan, folder: Path | None) -> Campaign:
    """A new exploration, in a folder of its own."""
    plan.wanted("6.12")  # an activity or point that cannot be is found before anything is made
    tools = Tools(plan.engine)
    engine = tools.engine(MachineSection(virt="vmx"))
    words = "-".join((*plan.activities, re.sub(r"[^\w.+-]+", "-", plan.kernel)))
    folder = folder or Path("explore") / f"{time.strftime('%Y%m%dT%H%M%S')}-{words}"
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise UsageError(f"{folder} is there already", hint=f"harness explore --resume {folder}") from error
    except OSError as error:
        raise HostFault(f"cannot make {folder}: {error.strerror}") from error
    plan = replace(plan, engine=engine.name)
    plan.save(folder)
    return Campaign.in_folder(folder.absolute(), plan, engine, tools.qemu)


def _resumed(folder: Path) -> Campaign:
    plan = Plan.load(folder)
    tools = Tools(plan.engine)
    return Campaign.in_folder(folder.absolute(), plan, tools.engine(), tools.qemu)


def _repeated(campaign: Campaign, found: Sequence[Discovery]) -> list[Discovery]:
    """The discoveries, each with whether its simplest schedule, which may be that of several, does it again."""
    again = {schedule: campaign.again(schedule).kinds for schedule in dict.fromkeys(one.simplest for one in found)}
    return [replace(one, reproduced=one.breach in again[one.simplest]) for one in found]
