"""`harness schema`: the JSON Schemas of scenarios and matrices, for editors, and of results, for programs."""

from __future__ import annotations

import click

from harness.fleet.matrix import matrix_schema
from harness.output import require_writable
from harness.report.document import result_schema
from harness.report.result import write_json
from harness.scenario.schema import json_schema

_SCHEMAS = {"scenario": json_schema, "matrix": matrix_schema, "result": result_schema}


@click.command()
@click.argument("what", type=click.Choice(tuple(_SCHEMAS)), default="scenario")
@click.option("--json", "json_file", default="-", metavar="FILE", help="Write it to FILE instead of stdout.")
def schema(what: str, json_file: str) -> int:
    """Print a JSON Schema: of scenario or matrix files, for an editor, or of result documents.

    \b
    harness schema --json ~/.config/harness-scenario.schema.json
    harness schema matrix --json ~/.config/harness-matrix.schema.json
    harness schema result
    """
    require_writable(json_file)
    write_json(json_file, _SCHEMAS[what]())
    return 0
