"""A night's summary for a person at a terminal, or in a mail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.errors import Exit
from harness.fleet.nights import Line
from harness.fleet.summary import KernelReport, LineReport, Status, Summary
from harness.judge.verdict import Verdict

_STYLES = {
    Status.BROKE: "bold red",
    Status.STILL: "red",
    Status.FIXED: "green",
    Status.FLAKY: "bold yellow",
    Status.NEW: "cyan",
}
_FAULT_LINES = 12  # of a build log; the JSON has all that was kept
_EXIT_STYLES = {Exit.CONFIRMED: "green", Exit.NOT_EXERCISED: "yellow"}


def print_summary(console: Console, summary: Summary) -> None:
    """The kernels, then what changed, the worst first; what goes on as before is only counted."""
    night = summary.night
    said = f"{night.began} to {night.ended}" if night.ended else f"since {night.began}"
    missing = f", {summary.missing} of them still to run" if summary.missing else ""
    state = "" if night.state == "finished" else f" [bold yellow]{night.state}[/]"
    console.print(
        f"[bold]night {night.id} of {escape(night.matrix)}[/], {said}: {summary.cells} cells{missing},"
        f" {summary.seconds / 60:.1f} min of runs{state}",
        highlight=False,
    )
    console.print(_kernels(summary))
    for kernel in summary.kernels:
        _print_fault(console, kernel)
    _print_changed(console, summary.having(Status.BROKE), "broke")
    _print_changed(console, [line for line in summary.having(Status.NEW) if not line.now.green], "new, and not green")
    _print_flaky(console, summary.having(Status.FLAKY))
    _print_changed(console, summary.having(Status.STILL), "still not green")
    _print_changed(console, summary.having(Status.FIXED), "green again")
    _print_new(console, summary.having(Status.NEW), summary.vanished)
    green = sum(line.now.green for line in summary.lines)
    console.print(
        f"\n[{_EXIT_STYLES.get(summary.exit, 'red')}]{green} of {len(summary.lines)} claims are as declared[/];"
        f" exit status {int(summary.exit)}",
        highlight=False,
    )


def _kernels(summary: Summary) -> Table:
    table = Table(header_style="bold")
    for heading in ("kernel", "is", "came since", *_COUNTED):
        table.add_column(heading, overflow="fold")
    for report in summary.kernels:
        frozen = report.kernel.frozen
        lines = [line for line in summary.lines if line.now.line.kernel == frozen.name]
        counts = [str(sum(map(counts, lines)) or "") for counts in _COUNTED.values()]
        revision = frozen.revision[:12] if frozen.repository else frozen.revision
        table.add_row(frozen.name, f"{frozen.release} {revision}".strip(), _since(report), *counts)
    return table


# A column of the table of kernels, and which lines it counts.
_COUNTED: Mapping[str, Callable[[LineReport], bool]] = {
    "as declared": lambda line: line.now.green,
    "violated": lambda line: not line.now.green and line.verdict == Verdict.VIOLATED.value,
    "not exercised": lambda line: not line.now.green and line.verdict == Verdict.NOT_EXERCISED.value,
    "flaky": lambda line: line.status is Status.FLAKY,
    "fault": lambda line: line.verdict == Verdict.HARNESS_FAULT.value,
}


def _since(report: KernelReport) -> str:
    return f"night {report.since}: {report.span.text}" if report.span else "new"


def _print_fault(console: Console, report: KernelReport) -> None:
    if report.kernel.fault:
        lines = report.kernel.fault.splitlines()
        console.print(f"[magenta]{escape(report.kernel.frozen.name)}[/]: {escape(lines[0])}", highlight=False)
        for line in lines[1:_FAULT_LINES]:
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


def _print_changed(console: Console, lines: Sequence[LineReport], title: str) -> None:
    """Lines that are not as they were, or should be: what came into a kernel is said once for all of its lines."""
    if lines:
        console.print(f"\n[{_STYLES[lines[0].status]}]{title}[/]")
    for (kernel, *_), group in _grouped(
        lines, lambda line: (line.now.line.kernel, line.reference, line.scenario_changed)
    ):
        console.print(f"  on {escape(kernel)}: {_compared(group[0])}", highlight=False, soft_wrap=True)
        _print_commits(console, group[0])
        for (verdict, folder, evidence), claims in _grouped(group, _told_together):
            if folder:
                for line in claims:
                    _print_line(console, line)
            else:
                scenarios = {line.now.line.scenario for line in claims}
                what = f"{len(claims)} claims of {len(scenarios)} scenarios: [bold]{verdict}[/]: {escape(evidence)}"
                console.print(f"    {what}", highlight=False, soft_wrap=True)


Key = TypeVar("Key", bound=tuple[Any, ...])


def _grouped(lines: Iterable[LineReport], key: Callable[[LineReport], Key]) -> Iterable[tuple[Key, list[LineReport]]]:
    """The lines with one key together, in the order of their first ones."""
    groups: dict[Key, list[LineReport]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return groups.items()


def _told_together(line: LineReport) -> tuple[str, bool, str]:
    """What came to no run, a kernel that does not build above all, has one reason for many claims."""
    return line.verdict, line.attempt.folder != "", "" if line.attempt.folder else line.evidence


def _compared(line: LineReport) -> str:
    if line.span is None:
        return "never seen green" if not line.now.green else "new"
    before = "not so" if line.now.green else "last green"
    changed = "; the scenario has changed as well" if line.scenario_changed else ""
    return f"{before} in night {line.reference}; since then: {escape(line.span.text)}{changed}"


def _print_commits(console: Console, line: LineReport) -> None:
    if line.span and line.span.commits:
        console.print(f"      git log --oneline {line.span.commits}", highlight=False)
        for commit in line.span.newest:
            console.print(f"        [dim]{escape(commit)}[/]", highlight=False, soft_wrap=True)


def _print_line(console: Console, line: LineReport) -> None:
    of = line.now.line
    where = f"{of.claim} of {of.scenario}, {of.engine}"
    console.print(f"    {escape(where)}: [bold]{line.verdict}[/]", highlight=False, soft_wrap=True)
    if not line.now.green:
        console.print(f"      {escape(line.evidence)}", highlight=False, soft_wrap=True)
        console.print(f"      [dim]{escape(line.attempt.folder)}[/]", highlight=False, soft_wrap=True)


def _print_flaky(console: Console, lines: Sequence[LineReport]) -> None:
    if lines:
        console.print(f"\n[{_STYLES[Status.FLAKY]}]flaky[/]")
    for (scenario, kernel, engine, nights, folder), claims in _grouped(lines, _flaky_together):
        where = escape(f"{scenario} on {kernel}, {engine}")
        over = f"in {nights} nights on the same kernel" if nights > 1 else "this night"
        console.print(f"  {where}, {over}", highlight=False, soft_wrap=True)
        for line in claims:
            console.print(f"    {escape(line.now.line.claim)}: {_rates(line)}", highlight=False, soft_wrap=True)
        console.print(f"      [dim]{escape(folder)}[/]", highlight=False, soft_wrap=True)


def _flaky_together(line: LineReport) -> tuple[str, str, str, int, str]:
    of = line.now.line
    return of.scenario, of.kernel, of.engine, line.nights, line.attempt.folder


def _rates(line: LineReport) -> str:
    runs = sum(line.rate.values())
    return ", ".join(
        f"{verdict.value} in {count} of {runs} ({100 * count / runs:.0f} %)" for verdict, count in line.rate.items()
    )


def _print_new(console: Console, new: Sequence[LineReport], vanished: Sequence[Line]) -> None:
    if new:
        cells = {(line.now.line.scenario, line.now.line.kernel, line.now.line.engine) for line in new}
        console.print(f"\n[{_STYLES[Status.NEW]}]new[/]: {len(new)} claims in {len(cells)} cells", highlight=False)
    if vanished:
        console.print("\n[bold]gone since the last night[/]")
    for line in vanished:
        console.print(f"  {escape(str(line))}", highlight=False, soft_wrap=True)
