"""`harness mutants`: which claims notice which seeded bugs."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options
from harness.machine.auto import Tools
from harness.mutants.matrix import run_matrix
from harness.mutants.mutant import load_mutant, project_mutants
from harness.report.matrix import print_matrix
from harness.report.result import write_json
from harness.report.terminal import results_console
from harness.scenario.load import load_scenario, scenario_files


@click.command()
@click.argument("patches", nargs=-1, type=click.Path(path_type=Path), metavar="[PATCH…]")
@click.option("--kernel", default="debian:6.12", show_default=True, metavar="K", help="The kernel that is mutated.")
@click.option("--scenario", "paths", multiple=True, type=click.Path(path_type=Path), help="Run only this scenario.")
@options.engine
@click.option(
    "--all", "every", is_flag=True, help="Run every scenario on every mutant, not just those of its claims."
)
@click.option("--until-killed", is_flag=True, help="Go on to the next mutant once a scenario has noticed this one.")
@click.option("--json", "json_file", metavar="FILE", help='Write the matrix as JSON too ("-": stdout).')
def mutants(
    patches: tuple[Path, ...],
    kernel: str,
    paths: tuple[Path, ...],
    engine: str,
    every: bool,
    until_killed: bool,
    json_file: str | None,
) -> int:
    """Build each mutant, run the scenarios that apply, and show which claims noticed it.

    Without PATCH, the project's own mutants for the kernel. A mutant is a patch with the trailers `Mutant:`,
    `Claims:` and `Kernels:` before its diff; any other patch is run against all scenarios. Exit status 1 when one
    survives.

    \b
    harness mutants --kernel debian:6.12
    harness mutants my-broken-idea.patch --scenario scenarios/load-unload.yaml
    """
    chosen = [load_mutant(path) for path in patches] or project_mutants(kernel)
    scenarios = [variant for path in paths or scenario_files() for variant in load_scenario(path).variants()]
    matrix = run_matrix(chosen, scenarios, kernel, Tools(engine), every=every, until_killed=until_killed)
    if json_file != "-":
        print_matrix(results_console(), matrix)
    if json_file:
        write_json(json_file, matrix.to_json())
    return int(matrix.exit)
