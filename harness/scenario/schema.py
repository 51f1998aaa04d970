"""The scenario model as a JSON Schema, so that an editor completes and checks a scenario while it is typed.

It knows the shapes: keys, kinds, types. What needs the whole file (an id that nobody gave, a claim that no
expectation decides) is found by `load.py` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from harness.scenario.expectations import EXPECTATION_KINDS
from harness.scenario.kinds import Id
from harness.scenario.load import REQUIRED_KEYS, TOP_KEYS, reference_claims
from harness.scenario.machine import MachineSection
from harness.scenario.model import Claim, ClaimUse, Point, Probe, Scenario
from harness.scenario.steps import ACTOR_KINDS, STEP_KINDS

Schema = dict[str, Any]


def json_schema() -> Schema:
    """A JSON Schema (draft 2020-12) of scenario files."""
    machine = _whole(MachineSection)
    sections_of_machine = machine.pop("$defs")  # references are resolved from the root
    sections: dict[str, Schema] = {
        "title": {"type": "string"},
        "about": {"type": "string"},
        "claims": _list(_claim()),
        "kernels": _list({"type": ["string", "number"]}),
        "machine": machine,
        "trace": _list({"anyOf": [{"type": "string"}, _whole(Probe)]}, at_least=0),
        "actors": {"type": "object", "additionalProperties": _one_of(ACTOR_KINDS, "step", leave_out=("id",))},
        "points": {"type": "object", "additionalProperties": _whole(Point)},
        "steps": _list(_one_of(STEP_KINDS, "step")),
        "permutations": TypeAdapter(list[list[Id]]).json_schema(),
        "expect": _list(_one_of(EXPECTATION_KINDS, "expectation")),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "scenario",
        "description": Scenario.__doc__,
        "type": "object",
        "required": list(REQUIRED_KEYS),
        "properties": {key: sections[key] for key in TOP_KEYS},
        "additionalProperties": False,
        "$defs": {
            **sections_of_machine,
            **_definitions("step", STEP_KINDS),
            **_definitions("expectation", EXPECTATION_KINDS),
        },
    }


class Untitled(GenerateJsonSchema):
    """Without a title per field, which editors show in place of the type, and without defaults that say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner: CoreSchema = schema["schema"]
        generated = self.generate_inner(inner)
        default = schema.get("default")
        return {**generated, "default": default} if default and isinstance(default, (str, int)) else generated


def _whole(model: type[BaseModel]) -> Schema:
    """The schema of a model that is written as a plain mapping."""
    schema = model.model_json_schema(schema_generator=Untitled)
    schema.pop("title")
    return schema


def _list(items: Schema, at_least: int = 1) -> Schema:
    return {"type": "array", "items": items, "minItems": at_least}


def _claim() -> Schema:
    """A reference id; or a mapping with an id of one of them, or with a claim of one's own."""
    use, own = _whole(ClaimUse)["properties"], _whole(Claim)
    known = {key: value for key, value in use.items() if key != "claim"}
    reference = {"enum": sorted(reference_claims())}
    return {
        "anyOf": [
            reference,
            {
                "type": "object",
                "required": ["id"],
                "properties": {"id": reference, **known},
                "additionalProperties": False,
            },
            {**own, "properties": own["properties"] | known},
        ]
    }


def _one_of(kinds: Mapping[str, type[BaseModel]], noun: str, leave_out: Iterable[str] = ()) -> Schema:
    """A mapping whose KIND key says which definition it follows.

    `if`/`then` and not `oneOf`: an error is then one about the kind that was written, not about all of them.
    """
    return {
        "type": "object",
        "properties": {kind: {"description": _summary(model)} for kind, model in kinds.items()},
        "anyOf": [{"required": [kind]} for kind in kinds],
        "allOf": [{"if": {"required": [kind]}, "then": {"$ref": f"#/$defs/{noun}-{kind}"}} for kind in kinds],
        **({"not": {"anyOf": [{"required": [key]} for key in leave_out]}} if leave_out else {}),
    }


def _definitions(noun: str, kinds: Mapping[str, type[BaseModel]]) -> dict[str, Schema]:
    return {f"{noun}-{kind}": _keyed(kind, model) for kind, model in kinds.items()}


def _keyed(kind: str, model: type[BaseModel]) -> Schema:
    """`{KIND: value, …}`: a field may stand in the value's mapping or beside it, the shorthand's as the value."""
    whole = _whole(model)
    fields: dict[str, Schema] = whole["properties"]
    shorthand = str(getattr(model, "shorthand", ""))
    if getattr(model, "takes_mapping", False):
        value = fields[shorthand]
    else:
        mapping = {
            "type": "object",
            "properties": fields,
            "required": whole.get("required", []),
            "additionalProperties": False,
        }
        value = {"anyOf": [fields[shorthand], mapping]} if shorthand else mapping
    return {
        "type": "object",
        "description": (model.__doc__ or "").strip(),
        "properties": {**fields, kind: {**value, "description": _summary(model)}},
        "required": [kind],
        "additionalProperties": False,
    }


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().split("\n")[0]
