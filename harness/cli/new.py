"""`harness new`: a scenario to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from harness.errors import UsageError
from harness.paths import cache_dir
from harness.report.result import write_json
from harness.scenario.schema import json_schema
from harness.scenario.template import KINDS, from_scenario, from_template

_KINDS = "\n".join(f"  {kind:9} {about}" for kind, about in KINDS.items())


@click.command(epilog=f"\b\nKinds:\n{_KINDS}")
@click.argument("name", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(tuple(KINDS)), help="What it is about.  [default: load]")
@click.option(
    "--from", "source", type=click.Path(path_type=Path), metavar="SCENARIO", help="Begin with this one instead."
)
@click.option("--title", default="", metavar="TEXT", help="One line for reports.")
@click.option("--kernel", "kernels", multiple=True, metavar="K", help="The kernel that it runs on (repeatable).")
def new(name: Path, kind: str | None, source: Path | None, title: str, kernels: tuple[str, ...]) -> int:
    """Write a scenario NAME.yaml that runs as it is, with comments on what to change.

    Its first line tells yaml-language-server where the schema is, so that an editor completes and checks it. A file
    that is there already is left alone.

    \b
    harness new my-patch
    harness new scenarios/my-race --kind race --kernel debian:6.12 --kernel debian:7.3
    harness new my-suspend --from scenarios/races/suspend-during-load.yaml --title "my patch, asleep"
    """
    if kind and source:
        raise UsageError("--kind and --from are two ways to begin", hint="give one of them")
    target = name if name.suffix == ".yaml" else name.with_name(f"{name.name}.yaml")
    schema = cache_dir() / "scenario.schema.json"
    if source:
        text = from_scenario(source, target, title, kernels, schema)
    else:
        text = from_template(kind or "load", target, title, kernels or ("debian:6.12",), schema)
    _create(target, text)
    schema.parent.mkdir(parents=True, exist_ok=True)
    write_json(str(schema), json_schema())
    click.echo(f"{target}: now  harness run {target}")
    return 0


def _create(target: Path, text: str) -> None:
    try:
        with target.open("x") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"{target} is there already", hint="choose another name") from error
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from error
