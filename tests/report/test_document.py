"""The published schema of results, tried on results."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from harness.paths import PROJECT
from harness.report.batch import Batch
from harness.report.document import RESULT_FORMAT, result_schema
from harness.report.formats import FORMATS
from tests.report import runs


def closed(schema: Any) -> Any:
    """The schema that also refuses fields which it does not know."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return {**inner, "additionalProperties": False} if "properties" in schema else inner


def validate(data: Any, schema: Any) -> None:
    jsonschema.Draft202012Validator(schema).validate(data)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(result_schema())
    assert result_schema()["$id"].endswith(f":{RESULT_FORMAT}")


def test_results_follow_the_schema_and_have_no_field_that_it_lacks() -> None:
    results = [*runs.recorded(), runs.known(), runs.faulty(), runs.violated(runs.HOSTILE)]
    documents = json.loads(FORMATS["json"].render(Batch(results)))
    validate(documents, closed(result_schema()))
    validate(documents[0], closed(result_schema()))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("claims", 0, "verdict"), "passed"),
        (("claims", 0, "known"), "harness fault"),
        (("format",), 2),
        (("exit",), 5),
        (("claims", 0, "findings", 0, "finding"), "maybe"),
        (("kernel",), None),
    ],
)
def test_what_is_no_result_is_refused(where: tuple[str | int, ...], value: object) -> None:
    document: Any = json.loads(json.dumps(runs.violated().to_json()))
    inner = document
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(document, result_schema())


def test_new_fields_and_results_of_before_some_fields_are_taken() -> None:
    document: Any = json.loads(json.dumps(runs.confirmed().to_json()))
    document["brand_new"] = 1
    for newer in ("started", "version", "key", "provenance"):
        del document[newer]
    validate(document, result_schema())


def test_the_documentation_has_every_field() -> None:
    text = (PROJECT / "docs" / "results.md").read_text()
    definitions = result_schema()["$defs"]
    for name in ("ResultDocument", "ClaimDocument", "FindingDocument"):
        for field in definitions[name]["properties"]:
            assert f"`{field}`" in text or f'"{field}":' in text, f"{name}.{field} is in no documentation"
