"""Verdicts for a person at a terminal: one table, then the evidence for what is not confirmed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from harness.judge.verdict import ClaimVerdict, Finding, Found, Verdict
from harness.report.lanes import lanes
from harness.report.result import RunResult
from harness.report.words import declared
from harness.scenario.expectations import Order
from harness.visible import VisibleConsole

STYLES = {
    Verdict.CONFIRMED: "green",
    Verdict.VIOLATED: "bold red",
    Verdict.NOT_EXERCISED: "yellow",
    Verdict.HARNESS_FAULT: "magenta",
}
_SIGNS = {Finding.HELD: "[green]✓[/]", Finding.FAILED: "[bold red]✗[/]", Finding.UNSEEN: "[yellow]?[/]"}


_PLAIN_WIDTH = 120  # of a file or a CI log, which have no width of their own


def results_console() -> Console:
    """The console for results: stdout, as wide as the terminal."""
    console = VisibleConsole()
    return console if console.is_terminal else VisibleConsole(width=_PLAIN_WIDTH)


def verdict_table(results: Sequence[RunResult]) -> Table:
    """Claims down, kernels across; a cell says the verdict, and whether it was declared as known."""
    columns = list(dict.fromkeys(result.column for result in results))
    table = Table(header_style="bold")
    table.add_column("scenario", no_wrap=True)
    table.add_column("claim", no_wrap=True)  # an id cut short cannot be looked up
    for column in columns:
        table.add_column(escape(column))
    rows: dict[tuple[str, str], dict[str, list[str]]] = {}  # several in a cell: its runs differ
    for result in results:
        for claim in result.judgement.claims:
            key = (result.scenario, claim.use.claim.id)
            cell = rows.setdefault(key, {}).setdefault(result.column, [])
            cell += [text for text in [_cell(claim)] if text not in cell]
    previous = ""
    for (scenario, claim_id), cells in rows.items():
        table.add_row(
            "" if scenario == previous else scenario,
            claim_id,
            *("\n".join(cells.get(column, ())) for column in columns),
        )
        previous = scenario
    return table


def _cell(claim: ClaimVerdict) -> str:
    note = declared(claim)
    return f"[{STYLES[claim.verdict]}]{claim.verdict.value}[/]" + (f" ({note})" if note else "")


def print_results(console: Console, results: Sequence[RunResult], verbose: bool = False) -> None:
    """The table, the evidence of each claim that is not confirmed (of all when `verbose`), and the folders."""
    console.print(verdict_table(results))
    print_meanings(console, results)
    for result in results:
        for claim in result.judgement.claims:
            if verbose or claim.verdict is not Verdict.CONFIRMED:
                console.print(evidence(result, claim))
        if result.fault:
            console.print(f"[magenta]{escape(result.fault)}[/]")
    for result in results:
        told = ", ".join(filter(None, (f"{result.seconds:.1f} s", result.beneath, str(result.folder))))
        console.print(f"[dim]{escape(result.title)}: {escape(told)}[/]", soft_wrap=True)


def print_meanings(console: Console, results: Sequence[RunResult]) -> None:
    """One line on each verdict that the scenario has words for, where it is the declared one."""
    for result in results:
        for claim in result.judgement.claims:
            meaning = claim.use.means.get(result.kernel)
            if meaning and claim.as_declared:
                verdict = f"[{STYLES[claim.verdict]}]{claim.verdict.value}[/]"
                head = f"{claim.use.claim.id} {verdict} on {escape(result.kernel)}:"
                console.print(f"{head} {escape(meaning)}", highlight=False, soft_wrap=True)


def evidence(result: RunResult, claim: ClaimVerdict) -> RenderableType:
    """A claim's text and source, and its findings with the events that prove them."""
    where = ", ".join(filter(None, (result.column, result.beneath)))
    head = f"[bold]{claim.use.claim.id}[/] on {escape(where)}: {_cell(claim)}"
    parts: list[RenderableType] = [
        "",
        head,
        f"  {escape(claim.use.claim.text)}",
        f"  [dim]{escape(claim.use.claim.source)}[/]",
    ]
    if claim.known == Verdict.VIOLATED.value:
        story = {"since": claim.use.since, "fixed by": claim.use.fixed_by}
        parts += [f"  {word}: {escape(commit)}" for word, commit in story.items() if commit]
    for found in claim.findings:
        parts += _finding(found)
    if claim.verdict is Verdict.VIOLATED and not any(_contradicts(found) for found in claim.findings):
        parts += _course(claim.findings)
    return Group(*parts)


def plain_evidence(result: RunResult, claim: ClaimVerdict) -> list[str]:
    """The same as lines of plain text, wide enough for the lanes of four CPUs."""
    console = Console(width=200, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(evidence(result, claim))
    return [line.rstrip() for line in capture.get().strip("\n").splitlines()]


def _contradicts(found: Found) -> bool:
    """Whether events themselves are what is wrong; they are shown where that is said."""
    return found.finding is Finding.FAILED and bool(found.events)


def _course(findings: Sequence[Found]) -> list[RenderableType]:
    """The order that was seen, of a violation that is one of state: what led there."""
    events = {
        id(event): event for found in findings if isinstance(found.expectation, Order) for event in found.events
    }
    if not events:
        return []
    ordered = sorted(events.values(), key=lambda event: event.order or (0, 0))
    return [Padding(lanes(ordered), (0, 0, 0, 6))]


def _finding(found: Found) -> list[RenderableType]:
    kind = f"{found.expectation.kind}: " if found.expectation else ""
    parts: list[RenderableType] = [f"  {_SIGNS[found.finding]} {kind}{escape(found.text)}"]
    parts += [f"      [dim]{escape(line)}[/]" for line in found.evidence]
    if _contradicts(found):
        parts.append(Padding(lanes(found.events, found.events), (0, 0, 0, 6)))
    return parts
