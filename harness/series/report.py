"""What a series changed, side by side with the kernel without it: for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.errors import worst_exit
from harness.judge.verdict import Verdict
from harness.kernels.mailbox import Series
from harness.report.terminal import STYLES, evidence
from harness.series.relevance import Chosen
from harness.series.touched import Touched
from harness.series.trial import Difference, Trial

TRIAL_FORMAT = 1
_SHOWN = 3  # reasons for a scenario

_CHANGE_STYLES = {
    "broken": "bold red",
    "seen to be violated": "bold red",
    "violated otherwise too": "bold red",
    "fixed": "bold green",
}


def print_choice(console: Console, series: Series, what: Touched, chosen: Sequence[Chosen], left_out: int) -> None:
    """The series, what it touches, and the scenarios with the reasons for them."""
    count = len(series.mails)
    console.print(f"[bold]{escape(series.title)}[/]: {count} patch{'es' * (count > 1)}", highlight=False)
    console.print(f"  touches {', '.join(sorted(what.functions)) or 'no function'}", highlight=False, soft_wrap=True)
    for one in chosen:
        more = f" and {len(one.why) - _SHOWN} more" if len(one.why) > _SHOWN else ""
        why = ", ".join(one.why[:_SHOWN]) + more
        console.print(f"  [bold]{one.scenario.name}[/] {escape(why)}", highlight=False, soft_wrap=True)
    if left_out:
        console.print(f"  left out, with less to do with it: {left_out} more (--all)", highlight=False)


def print_trials(console: Console, trials: Sequence[Trial], verbose: bool) -> None:
    """A table per kernel, what the series changed, and the evidence on both sides of each change."""
    for trial in trials:
        if trial.target.note:
            console.print(escape(trial.target.note), highlight=False, soft_wrap=True)
        console.print(_table(trial))
        for one in trial.differences:
            if one.change or verbose:
                console.print(evidence(one.without, one.before), evidence(one.patched, one.after))
        for result in (*trial.without, *trial.patched):
            if result.fault:
                console.print(f"[magenta]{escape(result.fault)}[/]")
            console.print(f"[dim]{result.scenario} on {result.kernel}: {result.folder}[/]", soft_wrap=True)
    for trial in trials:
        for line in sentences(trial):
            console.print(line, highlight=False, soft_wrap=True)


def sentences(trial: Trial) -> list[str]:
    """What the series changed on a kernel: one sentence per change, or that there is none."""
    changed = [one for one in trial.differences if one.change]
    told = [f"{trial.target.spec}: {_sentence(one)}" for one in changed]
    if told:
        return told
    confirmed = sum(one.after.verdict is Verdict.CONFIRMED for one in trial.differences)
    return [f"{trial.target.spec}: the series changed no verdict; {confirmed} of {len(trial.differences)} confirmed"]


def _sentence(one: Difference) -> str:
    return f"{one.claim} in {one.scenario} is {one.change}: {one.before.verdict.value} → {one.after.verdict.value}"


def to_json(series: Series, what: Touched, trials: Sequence[Trial]) -> dict[str, Any]:
    """The trials as JSON data; the format is documented in docs/try.md."""
    return {
        "format": TRIAL_FORMAT,
        "series": {
            "title": series.title,
            "patches": [mail.patch.subject for mail in series.mails],
            "notes": list(series.notes),
            "files": sorted(what.files),
            "functions": sorted(what.functions),
        },
        "exit": int(worst_exit([trial.exit for trial in trials])),
        "kernels": [
            {
                "kernel": trial.target.spec,
                "note": trial.target.note,
                "exit": int(trial.exit),
                "scenarios": [{"scenario": one.scenario.name, "why": list(one.why)} for one in trial.chosen],
                "left_out": trial.left_out,
                "claims": [
                    {
                        "scenario": one.scenario,
                        "claim": one.claim,
                        "before": one.before.verdict.value,
                        "after": one.after.verdict.value,
                        "change": one.change or None,
                    }
                    for one in trial.differences
                ],
                "runs": [result.to_json() for result in (*trial.without, *trial.patched)],
            }
            for trial in trials
        ],
    }


def _table(trial: Trial) -> Table:
    table = Table(title=trial.target.spec, header_style="bold")
    for column in ("scenario", "claim", "without", "with the series", ""):
        table.add_column(column, no_wrap=column == "claim")
    previous = ""
    for one in trial.differences:
        known = " (known)" if one.before.known and one.before.as_declared else ""
        style = _CHANGE_STYLES.get(one.change, "yellow")
        table.add_row(
            "" if one.scenario == previous else one.scenario,
            one.claim,
            _cell(one.before.verdict) + known,
            _cell(one.after.verdict),
            f"[{style}]{one.change}[/]" if one.change else "",
        )
        previous = one.scenario
    return table


def _cell(verdict: Verdict) -> str:
    return f"[{STYLES[verdict]}]{verdict.value}[/]"
