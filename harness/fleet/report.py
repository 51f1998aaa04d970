"""A night's summary for a person at a terminal, or in a mail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

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
    _print_broken(console, summary.having(Status.BROKE), "broke")
    _print_broken(console, [line for line in summary.having(Status.NEW) if not line.now.green], "new, and not green")
    _print_flaky(console, summary.having(Status.FLAKY))
    _print_broken(console, summary.having(Status.STILL), "still not green")
    _print_fixed(console, summary.having(Status.FIXED))
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


def _print_broken(console: Console, lines: Sequence[LineReport], title: str) -> None:
    if lines:
        console.print(f"\n[{_STYLES[lines[0].status]}]{title}[/]")
    for line in lines:
        console.print(f"  {escape(str(line.now.line))}: [bold]{line.verdict}[/]", highlight=False, soft_wrap=True)
        console.print(f"    {escape(line.evidence)}", highlight=False, soft_wrap=True)
        console.print(f"    {_green_before(line)}", highlight=False, soft_wrap=True)
        _print_commits(console, line)
        if line.attempt.folder:
            console.print(f"    [dim]{escape(line.attempt.folder)}[/]", highlight=False, soft_wrap=True)


def _green_before(line: LineReport) -> str:
    if line.span is None:
        return "never seen green"
    changed = "; the scenario has changed as well" if line.scenario_changed else ""
    return f"last green in night {line.reference}; since then: {escape(line.span.text)}{changed}"


def _print_commits(console: Console, line: LineReport) -> None:
    if line.span and line.span.commits:
        console.print(f"    git log --oneline {line.span.commits}", highlight=False)
        for commit in line.span.newest:
            console.print(f"      [dim]{escape(commit)}[/]", highlight=False, soft_wrap=True)


def _print_flaky(console: Console, lines: Iterable[LineReport]) -> None:
    for number, line in enumerate(lines):
        if number == 0:
            console.print(f"\n[{_STYLES[Status.FLAKY]}]flaky[/]")
        runs = sum(line.rate.values())
        rates = ", ".join(
            f"{verdict.value} in {count} of {runs} ({100 * count / runs:.0f} %)"
            for verdict, count in line.rate.items()
        )
        nights = f"{line.nights} nights on" if line.nights > 1 else "this night on"
        console.print(f"  {escape(str(line.now.line))}: {rates}", highlight=False, soft_wrap=True)
        console.print(
            f"    {nights} the same kernel; [dim]{escape(line.attempt.folder)}[/]", highlight=False, soft_wrap=True
        )


def _print_fixed(console: Console, lines: Iterable[LineReport]) -> None:
    for number, line in enumerate(lines):
        if number == 0:
            console.print(f"\n[{_STYLES[Status.FIXED]}]green again[/]")
        assert line.span is not None
        since = f"not so in night {line.reference}; since then: {escape(line.span.text)}"
        console.print(f"  {escape(str(line.now.line))}: {line.verdict}; {since}", highlight=False, soft_wrap=True)
        _print_commits(console, line)


def _print_new(console: Console, new: Sequence[LineReport], vanished: Sequence[Line]) -> None:
    if new:
        cells = {(line.now.line.scenario, line.now.line.kernel, line.now.line.engine) for line in new}
        console.print(f"\n[{_STYLES[Status.NEW]}]new[/]: {len(new)} claims in {len(cells)} cells", highlight=False)
    if vanished:
        console.print("\n[bold]gone since the last night[/]")
    for line in vanished:
        console.print(f"  {escape(str(line))}", highlight=False, soft_wrap=True)
