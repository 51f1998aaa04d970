"""What an exploration found, for a terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.errors import Exit, worst_exit
from harness.explore.campaign import Campaign
from harness.explore.prune import Why
from harness.explore.ran import Breach, How, Ran
from harness.explore.schedules import Schedule, schedule_name, switches

EXPLORATION_FORMAT = 1


@dataclass(frozen=True)
class Discovery:
    """One thing that was broken, with the schedules that break it, the simplest first."""

    breach: Breach
    schedules: tuple[Ran, ...]
    reproduced: bool | None = None  # by running the simplest once more; None: not tried

    @property
    def simplest(self) -> Schedule:
        return self.schedules[0].schedule


def discoveries(campaign: Campaign) -> list[Discovery]:
    """What was broken and is not known, each once, in the order of how simple the simplest schedule for it is."""
    segments = campaign.script.segments()
    broken = [result for result in campaign.results.values() if result.how == "broken"]
    broken.sort(key=lambda result: (switches(result.schedule, segments), len(result.schedule), result.schedule))
    found: dict[Breach, list[Ran]] = {}
    for result in broken:
        for breach in campaign.news(result):
            found.setdefault(breach, []).append(result)
    return [Discovery(breach, tuple(results)) for breach, results in found.items()]


def exit_of(campaign: Campaign) -> Exit:
    """1 when something was broken and is not known, 3 and 4 when a schedule could not be run or did not happen."""
    by_how = {"fault": Exit.HARNESS_FAULT, "unseen": Exit.NOT_EXERCISED}
    exits = [by_how.get(result.how, Exit.CONFIRMED) for result in campaign.results.values()]
    return worst_exit([*exits, *(Exit.VIOLATED for result in campaign.results.values() if campaign.news(result))])


def print_exploration(console: Console, campaign: Campaign, found: Sequence[Discovery]) -> None:
    """The points, how many schedules came to what, and what was broken."""
    console.print(_points_table(campaign))
    for line in _numbers(campaign):
        console.print(line, highlight=False)
    if not found:
        console.print("[green]nothing was broken[/]" + (" that is not known" if campaign.known else ""))
    for number, discovery in enumerate(found, start=1):
        console.print()
        _print_discovery(console, campaign, number, discovery)
    console.print(f"[dim]{campaign.folder}[/]", soft_wrap=True)


def _points_table(campaign: Campaign) -> Table:
    table = Table(title=f"{campaign.plan.kernel} {campaign.engine.name}", header_style="bold")
    for column in ("activity", "", "held at", "which is"):
        table.add_column(column, no_wrap=column in ("activity", "held at"))
    for name, recording in campaign.recordings.items():
        for number, point in enumerate(recording.points, start=1):
            table.add_row(name if number == 1 else "", str(number), escape(point.text), point.meaning)
        for point in recording.absent:
            table.add_row("", "-", f"[dim]{escape(point.text)}[/]", "[dim]never comes there alone[/]")
    return table


def _numbers(campaign: Campaign) -> list[str]:
    """How many interleavings there are, and what became of them."""
    hows = Counter(result.how for result in campaign.results.values())
    pruned = Counter(pruned.why for pruned in campaign.pruned().values())
    seconds = sorted(result.seconds for result in campaign.results.values())
    lines = [
        f"{len(campaign.schedules)} interleavings; {len(campaign.results)} were run"
        + (f", {seconds[len(seconds) // 2]:.1f} s each (median)" if seconds else "")
    ]
    lines += [f"  {count:5} {_HOWS[how]}" for how in _HOWS if (count := hows[how])]
    lines += [f"  {count:5} not run, {_WHYS[why]}" for why in _WHYS if (count := pruned[why])]
    if left := len(campaign.left()):
        lines.append(f"  {left:5} left: harness explore --resume {campaign.folder}")
    lines += [f"        {escape(text)}" for text in _impossible(campaign)]
    return lines


_HOWS: dict[How, str] = {
    "held": "happened, and all was as it must be",
    "broken": "[bold red]broke something[/]",
    "blocked": "cannot happen: who was let go waits for one that is held",
    "strayed": "went another way than alone, and were run in a shorter form",
    "unseen": "[yellow]did not happen[/]",
    "fault": "[magenta]failed for the harness's own reasons[/]",
}
_WHYS: dict[Why, str] = {
    "equivalent": "equivalent to one that is run: neighbouring segments that share nothing were swapped",
    "impossible": "impossible: tasks would have to go on from where one was seen to be blocked",
    "shorter": "an activity goes another way there, and ends sooner: what is left was run",
}


def _impossible(campaign: Campaign) -> list[str]:
    """Who waits for whom, each once, with the place in the kernel."""
    found = {}
    for result in campaign.results.values():
        if result.how == "blocked":
            begun = result.begun
            found[schedule_name(begun)] = (
                f"{begun[-1]} is blocked in {schedule_name(begun)}: {_first_frame(result.why)}"
            )
    return list(found.values())


def _first_frame(stack: str) -> str:
    """Where a stack says that a task sleeps: its first frame that is no scheduling."""
    frames = [line.split()[-1] for line in stack.splitlines() if "+0x" in line]
    return next((frame for frame in frames if "schedule" not in frame), "where is not known")


def _print_discovery(console: Console, campaign: Campaign, number: int, discovery: Discovery) -> None:
    claim = f"{discovery.breach.claim}: " if discovery.breach.claim else ""
    console.print(f"[bold red]{number}. {claim}{escape(discovery.breach.text)}[/]", highlight=False)
    count = len(discovery.schedules)
    console.print(f"   in {count} schedule{'s' if count > 1 else ''}; the simplest:", highlight=False)
    console.print(f"   {campaign.title(discovery.simplest)}", highlight=False)
    again = {True: "happened again", False: "[yellow]did not happen again[/]", None: "not run again"}
    path = campaign.scenario_path(discovery.simplest)
    console.print(f"   harness run {path}  ({again[discovery.reproduced]})", highlight=False, soft_wrap=True)
    console.print(f"   [dim]{discovery.schedules[0].folder}[/]", soft_wrap=True)


def to_json(campaign: Campaign, found: Sequence[Discovery]) -> dict[str, Any]:
    """The exploration as JSON data; the format is documented in docs/explore.md."""
    return {
        "format": EXPLORATION_FORMAT,
        "command": campaign.plan.command,
        "activities": list(campaign.plan.activities),
        "kernel": campaign.plan.kernel,
        "engine": campaign.engine.name,
        "exit": int(exit_of(campaign)),
        "points": {
            name: [{"at": point.text, "meaning": point.meaning} for point in recording.points]
            for name, recording in campaign.recordings.items()
        },
        "interleavings": len(campaign.schedules),
        "left": len(campaign.left()),
        "found": [
            {
                "claim": discovery.breach.claim or None,
                "text": discovery.breach.text,
                "schedules": [schedule_name(result.schedule) for result in discovery.schedules],
                "scenario": str(campaign.scenario_path(discovery.simplest)),
                "reproduced": discovery.reproduced,
            }
            for discovery in found
        ],
        "pruned": [
            {
                "schedule": schedule_name(schedule),
                "why": pruned.why,
                "text": pruned.text,
                "instead": schedule_name(pruned.instead) if pruned.instead else None,
            }
            for schedule, pruned in campaign.pruned().items()
        ],
        "runs": [result.to_json() for result in campaign.results.values()],
    }
