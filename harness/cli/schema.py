"""`harness schema`: the JSON Schema of scenarios, for editors."""

from __future__ import annotations

import click

from harness.report.result import write_json
from harness.scenario.schema import json_schema


@click.command()
@click.option("--json", "json_file", default="-", metavar="FILE", help="Write it to FILE instead of stdout.")
def schema(json_file: str) -> int:
    """Print a JSON Schema of scenario files, for completion and checks in an editor."""
    write_json(json_file, json_schema())
    return 0
