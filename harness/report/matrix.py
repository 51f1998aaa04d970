"""The kill matrix for a terminal: mutants down, claims across."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from harness.judge.verdict import Verdict
from harness.mutants.matrix import Matrix, MutantResult

_CELLS = {
    None: "",
    Verdict.CONFIRMED: "[dim]·[/]",
    Verdict.VIOLATED: "[bold green]✗[/]",
    Verdict.NOT_EXERCISED: "[yellow]?[/]",
    Verdict.HARNESS_FAULT: "[magenta]![/]",
}


def print_matrix(console: Console, matrix: Matrix) -> None:
    """The table, its legend, and a line for every mutant that survived."""
    claims = list(dict.fromkeys(claim for row in matrix.rows for claim in row.verdicts))
    table = Table(title=f"{matrix.kernel} {matrix.engine}", header_style="bold")
    table.add_column("mutant", no_wrap=True)
    for number in range(1, len(claims) + 1):
        table.add_column(str(number), justify="center")
    table.add_column("", no_wrap=True)
    for row in matrix.rows:
        table.add_row(row.mutant.id if row.mutant else "(none)", *(_cell(row, claim) for claim in claims), _word(row))
    console.print(table)
    for number, claim in enumerate(claims, start=1):
        console.print(f"  {number:2}  {claim}", highlight=False)
    console.print(
        "  ✗ violated   s violated by a splat or hang of its run   · confirmed   ? not exercised   ! harness fault",
        highlight=False,
    )
    for row in matrix.survivors:
        assert row.mutant is not None
        folders = ", ".join(str(run.folder) for run in row.runs) or "no scenario applies"
        console.print(f"[red]{row.mutant.id} survived[/]: {folders}", soft_wrap=True)


def _cell(row: MutantResult, claim: str) -> str:
    verdict = row.verdicts.get(claim)
    return "[green]s[/]" if verdict is Verdict.VIOLATED and claim not in row.noticed else _CELLS[verdict]


def _word(row: MutantResult) -> str:
    if row.faulty:
        return "[magenta]harness fault[/]"
    if row.mutant is None:
        return "[bold red]not as declared[/]" if row.undeclared else "[green]as declared[/]"
    return "[green]killed[/]" if row.killed_by else "[bold red]survived[/]"
