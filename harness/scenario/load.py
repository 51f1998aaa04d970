"""YAML to a Scenario, with every fault reported as `file:line: what, and what would be right`."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from harness.paths import PROJECT
from harness.scenario import check
from harness.scenario.expectations import EXPECTATION_KINDS, Expectation
from harness.scenario.faults import Faults, closest
from harness.scenario.machine import MachineSection
from harness.scenario.model import Claim, ClaimUse, Point, Probe, Scenario
from harness.scenario.steps import ACTOR_KINDS, STEP_KINDS, Step
from harness.scenario.yaml_file import Document, Location, read_yaml

REFERENCE_CLAIMS = PROJECT / "scenarios" / "claims.yaml"

TOP_KEYS = (
    "title",
    "about",
    "claims",
    "kernels",
    "machine",
    "trace",
    "actors",
    "points",
    "steps",
    "permutations",
    "expect",
)
REQUIRED_KEYS = ("title", "claims", "kernels", "steps", "expect")
_STEP_SIDE_KEYS = ("id", "within", "kernels", "mode", "blocks")
_EXPECTATION_SIDE_KEYS = ("claim", "kernels", "vendor", "during", "per")

Model = TypeVar("Model", bound=BaseModel)


@functools.cache
def reference_claims(path: Path = REFERENCE_CLAIMS) -> Mapping[str, Claim]:
    """The reference claims by id. Raises ScenarioError for a fault in claims.yaml itself."""
    document = read_yaml(path)
    faults = Faults(document)
    if not isinstance(document.data, list):
        raise document.error((), "claims.yaml must be a list of claims")
    claims = [build_model(Claim, item, (index,), faults) for index, item in enumerate(document.data)]
    faults.raise_if_any()
    return {claim.id: claim for claim in claims if claim is not None}


def scenario_files(folder: Path = REFERENCE_CLAIMS.parent) -> list[Path]:
    """The scenarios of a folder, in order of name; claims.yaml is none."""
    return sorted(path for path in folder.rglob("*.yaml") if path.name != REFERENCE_CLAIMS.name)


def load_scenario(path: Path) -> Scenario:
    """Reads and checks a scenario. Raises ScenarioError that lists every fault, UsageError for no such file."""
    return build_scenario(read_yaml(path))


def build_scenario(document: Document) -> Scenario:
    """The same for a document that was already read."""
    data, faults = document.data, Faults(document)
    if not isinstance(data, dict):
        raise document.error((), "a scenario is a mapping with title, claims, kernels, steps and expect")
    _check_keys(data, TOP_KEYS, (), faults)
    for key in REQUIRED_KEYS:
        if not data.get(key):
            faults.add((key,), f"{key!r} is missing or empty")
    scenario = _assemble(document, data, faults)
    faults.raise_if_any()
    for checker in (check.cross_references, check.permutations):
        checker(scenario, faults)
        faults.raise_if_any()
    return scenario


def _assemble(document: Document, data: dict[str, Any], faults: Faults) -> Scenario:
    sections = {
        "claims": [_claim(item, ("claims", i), faults) for i, item in _items(data, "claims", faults)],
        "kernels": [str(item) for _, item in _items(data, "kernels", faults)],
        "machine": build_model(MachineSection, data.get("machine", {}), ("machine",), faults),
        "trace": [_probe(item, ("trace", i), faults) for i, item in _items(data, "trace", faults)],
        "actors": {
            name: _keyed(
                item, ("actors", name), faults, ACTOR_KINDS, ("within", "kernels", "cpu"), "actor", {"id": name}
            )
            for name, item in _entries(data, "actors", faults)
        },
        "points": {
            name: build_model(Point, item, ("points", name), faults)
            for name, item in _entries(data, "points", faults)
        },
        "steps": _with_ids(
            [
                _keyed(item, ("steps", i), faults, STEP_KINDS, _STEP_SIDE_KEYS, "step")
                for i, item in _items(data, "steps", faults)
            ]
        ),
        "permutations": [item for _, item in _items(data, "permutations", faults)],
        "expect": [
            _keyed(item, ("expect", i), faults, EXPECTATION_KINDS, _EXPECTATION_SIDE_KEYS, "expectation")
            for i, item in _items(data, "expect", faults)
        ],
    }
    faults.raise_if_any()
    head = {"path": document.path, "title": data["title"], "about": data.get("about", "")}
    scenario = build_model(Scenario, head | sections, (), faults)
    faults.raise_if_any()
    assert scenario is not None
    return scenario


def _items(data: dict[str, Any], key: str, faults: Faults) -> list[tuple[int, Any]]:
    value = data.get(key, [])
    if isinstance(value, list):
        return list(enumerate(value))
    if value is None and key in REQUIRED_KEYS:
        return []  # which is a fault already
    faults.add((key,), f"{key!r} must be a list")
    return []


def _entries(data: dict[str, Any], key: str, faults: Faults) -> list[tuple[str, Any]]:
    value = data.get(key, {})
    if isinstance(value, dict):
        return list(value.items())
    faults.add((key,), f"{key!r} must be a mapping of names")
    return []


def build_model(model: type[Model], data: Any, location: Location, faults: Faults) -> Model | None:
    """Validates `data`; on errors adds a fault for each, at its line, and returns None."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for problem in error.errors():
            where = (*location, *problem["loc"])
            known = [field.alias or name for name, field in model.model_fields.items()]
            faults.add(where, *_explain(problem, known))
    return None


# pydantic's kinds of values, as they are called in YAML.
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "list": "a list",
    "dict": "a mapping",
}


def _explain(problem: Any, known: list[str]) -> tuple[str, str]:
    name = ".".join(str(part) for part in problem["loc"] if part != "[key]")  # pydantic's word for a mapping's key
    if problem["type"] == "extra_forbidden":
        return f"unknown key {name!r}", closest(str(problem["loc"][-1]), known)
    if problem["type"] == "missing":
        return f"{name!r} is missing", ""
    if problem["type"] == "model_type":
        return f"{name!r} takes a mapping" if name else f"a mapping belongs here, not {problem['input']!r}", ""
    kind, _, what = problem["type"].partition("_")
    if kind in _TYPES and what in ("type", "parsing", "from_float"):
        return f"{name}: takes {_TYPES[kind]}, not {problem['input']!r}", ""
    text = str(problem["msg"]).removeprefix("Value error, ")
    return (f"{name}: {text}" if name else text), ""


def _check_keys(data: Mapping[str, Any], known: Iterable[str], location: Location, faults: Faults) -> None:
    for key in data:
        if key not in known:
            faults.add((*location, key), f"unknown key {key!r}", closest(key, known))


Keyed = TypeVar("Keyed", bound=BaseModel)


def _keyed(
    item: Any,
    location: Location,
    faults: Faults,
    kinds: Mapping[str, type[Keyed]],
    side_keys: tuple[str, ...],
    noun: str,
    fixed: Mapping[str, Any] | None = None,
) -> Keyed | None:
    """Builds the model of `{KIND: value, side keys …}`; KIND picks the model."""
    if not isinstance(item, dict):
        faults.add(location, f"{noun} must be a mapping such as `{next(iter(kinds))}: …`, found {item!r}")
        return None
    named = [key for key in item if key in kinds]
    if len(named) != 1:
        unknown = [key for key in item if key not in side_keys and key not in kinds]
        what = (
            f"more than one {noun} here: {', '.join(named)}"
            if named
            else f"unknown {noun} {', '.join(unknown) or '(none)'}"
        )
        faults.add((*location, *(unknown or named)[:1]), what, closest((unknown or [""])[0], kinds))
        return None
    model = kinds[named[0]]
    value = item[named[0]]
    takes_mapping = bool(getattr(model, "takes_mapping", False))
    fields = dict(value) if isinstance(value, dict) and not takes_mapping else {_shorthand(model): value}
    sides = {key: inner for key, inner in item.items() if key != named[0]}
    for key in sides.keys() & fields.keys():
        faults.add((*location, key), f"{key!r} is given twice")
    for key in (fixed or {}).keys() & item.keys():
        faults.add((*location, key), f"{noun}s have no {key!r} of their own")
    nested = {
        key: (*location, named[0], key) for key in fields if (*location, named[0], key) in faults.document.lines
    }
    return _build_keyed(model, {**fields, **sides, **(fixed or {})}, location, named[0], nested, faults)


def _shorthand(model: type[BaseModel]) -> str:
    return str(getattr(model, "shorthand", ""))


def _build_keyed(
    model: type[Keyed],
    fields: dict[str, Any],
    location: Location,
    kind: str,
    nested: Mapping[str, Location],
    faults: Faults,
) -> Keyed | None:
    if "" in fields:
        faults.add((*location, kind), f"`{kind}` takes a mapping of " + ", ".join(sorted(own_fields(model))))
        return None
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        for problem in error.errors():
            key = str(problem["loc"][0]) if problem["loc"] else ""
            where = nested.get(key, (*location, key) if key in fields else (*location, kind))
            known = [field.alias or name for name, field in model.model_fields.items()]
            faults.add((*where, *problem["loc"][1:]), *_explain(problem, known))
    return None


def own_fields(model: type[BaseModel]) -> list[str]:
    """The keys that a kind's mapping takes."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _with_ids(steps: list[Step | None]) -> list[Step | None]:
    """Gives steps without an id their kind as id, numbered from the second on: load, load-2."""
    seen: dict[str, int] = {}
    named: list[Step | None] = []
    for step in steps:
        if step is not None and not step.id:
            seen[step.kind] = seen.get(step.kind, 0) + 1
            number = seen[step.kind]
            step = step.model_copy(update={"id": step.kind if number == 1 else f"{step.kind}-{number}"})
        named.append(step)
    return named


def _claim(item: Any, location: Location, faults: Faults) -> ClaimUse | None:
    fields = {"id": item} if isinstance(item, str) else item
    if not isinstance(fields, dict) or "id" not in fields:
        faults.add(location, "a claim is an id, or a mapping with id, text and source, or with id and known")
        return None
    use = {key: value for key, value in fields.items() if key in ("known", "since", "fixed_by", "means")}
    own = {key: value for key, value in fields.items() if key not in use}
    claim = build_model(Claim, own, location, faults) if len(own) > 1 else reference_claims().get(str(own["id"]))
    if claim is None and len(own) == 1:
        faults.add(location, f"unknown claim {own['id']!r}", closest(str(own["id"]), reference_claims()))
    if claim is None:
        return None
    return build_model(ClaimUse, {"claim": claim, **use}, location, faults)


def _probe(item: Any, location: Location, faults: Faults) -> Probe | None:
    if isinstance(item, str):
        item = {"tracepoint" if ":" in item else "function": item}
    probe = build_model(Probe, item, location, faults)
    if probe is not None and bool(probe.function) == bool(probe.tracepoint):
        faults.add(location, "a trace entry names either a function or a tracepoint (group:name)")
    return probe


def to_yaml(scenario: Scenario) -> str:
    """The resolved scenario: ids given, claims written out; loading it gives the same scenario."""
    data = scenario.model_dump(
        mode="json", exclude_defaults=True, exclude={"path", "variant", "claims", "steps", "expect", "actors"}
    )
    data["claims"] = [
        {
            **use.claim.model_dump(mode="json", exclude_none=True),
            **use.model_dump(mode="json", exclude_defaults=True, exclude={"claim"}),
        }
        for use in scenario.claims
    ]
    if scenario.actors:
        data["actors"] = {
            name: _unkeyed(actor, ("within", "kernels", "cpu"), {"id"}) for name, actor in scenario.actors.items()
        }
    data["steps"] = [_unkeyed(step, _STEP_SIDE_KEYS, set()) for step in scenario.steps]
    data["expect"] = [_unkeyed(expectation, ("claim", "kernels", "vendor"), set()) for expectation in scenario.expect]
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)


def as_written(item: Step | Expectation) -> str:
    """A step or an expectation on one line: `order: [a, b], during: load`."""
    side_keys = _STEP_SIDE_KEYS if isinstance(item, Step) else _EXPECTATION_SIDE_KEYS
    keys = _unkeyed(item, side_keys, set())
    value = keys[item.kind]
    if isinstance(value, dict) and list(value) == [item.shorthand]:
        keys[item.kind] = value[item.shorthand]
    text = str(yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10_000))
    return text[1:-2].replace("'on':", "on:")  # YAML 1.1 has it for true; here it is text


def _unkeyed(model: Step | Expectation, side_keys: tuple[str, ...], leave_out: set[str]) -> dict[str, Any]:
    fields = model.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=leave_out)
    sides = {key: fields.pop(key) for key in side_keys if key in fields}
    return {model.kind: fields[model.shorthand] if model.takes_mapping else fields, **sides}
