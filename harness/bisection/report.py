"""What a bisection came to, for a terminal, for a mail and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.bisection.answer import Answer, Answered
from harness.bisection.bisection import LOG, Bisection, Found
from harness.bisection.history import Commit
from harness.judge.judge import judge
from harness.judge.record import load_record
from harness.report.result import RunResult
from harness.report.terminal import evidence
from harness.visible import VisibleConsole

BISECTION_FORMAT = 1
SUMMARY = "summary.txt"
_WIDTH = 110  # of the summary, as far as a mail may go

_STYLES = {Answer.GOOD: "green", Answer.BAD: "bold red", Answer.SKIP: "yellow", Answer.ABORT: "magenta"}


def print_bisection(console: Console, bisection: Bisection, found: Found) -> None:
    """The first bad commit, the revisions that were tested, and the evidence on both sides of the border."""
    if len(found.candidates) == 1:
        console.print("[bold]the first bad commit is[/]")
        console.print(escape(bisection.history.story(found.candidates[0].id)), highlight=False)
    else:
        console.print(f"[yellow]the first bad commit is one of {len(found.candidates)}[/]; the others say nothing")
        for commit in found.candidates:
            console.print(f"  {escape(str(commit))}", highlight=False, soft_wrap=True)
    console.print(_table(bisection, found))
    for tested in border(bisection, found):
        _print_evidence(console, bisection, tested)
    console.print(f"\n[dim]{bisection.folder}/{LOG} is for git bisect replay[/]", soft_wrap=True)


def write_summary(bisection: Bisection, found: Found) -> Path:
    """The same as plain text in the bisection's folder."""
    path = bisection.folder / SUMMARY
    with path.open("w") as file:
        print_bisection(VisibleConsole(file=file, width=_WIDTH), bisection, found)
    return path


def border(bisection: Bisection, found: Found) -> list[Answered]:
    """The good revision that comes next before the candidates, and the bad one that comes next after them."""
    tested = bisection.answers
    bad = tested[found.candidates[0].id]
    # Where what comes before was not tested, it is in the good revision.
    before = [tested[id] for id in bisection.history.parents(found.candidates[-1].id) if id in tested]
    good = next((one for one in before if one.answer is Answer.GOOD), tested[bisection.plan.good])
    return [good, bad]


def to_json(bisection: Bisection, found: Found) -> dict[str, Any]:
    """The bisection as JSON data; the format is documented in docs/bisect.md."""
    return {
        "format": BISECTION_FORMAT,
        "tree": bisection.plan.tree,
        "kernel": bisection.plan.kernel or None,
        "good": bisection.plan.good,
        "bad": bisection.plan.bad,
        "exit": int(found.exit),
        "claims": [{"scenario": scenario, "claim": claim} for scenario, claim in bisection.places],
        "first_bad": [_commit(commit) for commit in found.candidates],
        "border": [tested.commit.id for tested in border(bisection, found)],
        "tested": [tested.to_json() for tested in bisection.answers.values()],
        "folder": str(bisection.folder),
    }


def _commit(commit: Commit) -> dict[str, str]:
    return {"commit": commit.id, "title": commit.title}


def _table(bisection: Bisection, found: Found) -> Table:
    """The tested revisions in the order of the history, the newest first."""
    tested = bisection.answers
    history = bisection.history.between(bisection.plan.good, bisection.plan.bad)
    order = [commit.id for commit in history if commit.id in tested]
    table = Table(header_style="bold")
    for column in ("commit", "subject", "is", "since", "s"):
        table.add_column(column, no_wrap=column == "commit", justify="right" if column == "s" else "left")
    for id in [*order, *(id for id in tested if id not in order)]:
        one = tested[id]
        mark = " ←" if [commit.id for commit in found.candidates] == [id] else ""
        answer = f"[{_STYLES[one.answer]}]{one.answer.value}[/]"
        table.add_row(
            one.commit.short,
            escape(one.commit.title) + mark,
            answer,
            escape(one.why.splitlines()[0]),
            f"{one.seconds:.0f}",
        )
    return table


def _print_evidence(console: Console, bisection: Bisection, tested: Answered) -> None:
    style = _STYLES[tested.answer]
    console.print(
        f"\n[{style}]{tested.answer.value}[/]: {escape(str(tested.commit))}", highlight=False, soft_wrap=True
    )
    places = bisection.places
    for folder in tested.runs:
        record = load_record(Path(folder))
        result = RunResult.of(record, judge(record), 0.0)
        for claim in result.judgement.claims:
            if (result.scenario, claim.use.claim.id) in places:
                console.print(evidence(result, claim))
        console.print(f"[dim]{folder}[/]", soft_wrap=True)
