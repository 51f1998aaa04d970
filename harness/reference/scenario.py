"""The scenario reference: every key that a scenario can have, from the models that read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from harness.reference.examples import Example, Examples
from harness.reference.values import MEANINGS, default_of, type_of
from harness.scenario.expectations import EXPECTATION_KINDS, InWindow
from harness.scenario.load import REFERENCE_CLAIMS, REQUIRED_KEYS, TOP_KEYS
from harness.scenario.machine import CpuSection, MachineSection, TdxFault, TdxSection
from harness.scenario.model import Claim, ClaimUse, Point, Probe, Scenario
from harness.scenario.steps import ACTOR_KINDS, STEP_KINDS, GuestStep, Step

_HEAD = """\
# Scenario reference

Every key of a scenario with its type and default, and an example out of `scenarios/`: written by the models that
read a scenario. [Scenarios](../scenarios.md) explains what it comes to, and `harness schema` tells it to an
[editor](../editors.md).

What has no default and is not required is simply not there when it is left out.
"""

_KEYED = "Each is `KIND: VALUE`. These keys stand beside the kind or, like its own, in a mapping that is the value:"

# Sections that are one mapping, where they stand -> the model.
_MAPPINGS: Mapping[tuple[str, ...], type[BaseModel]] = {
    ("machine",): MachineSection,
    ("machine", "cpu"): CpuSection,
    ("machine", "tdx"): TdxSection,
    ("machine", "tdx", "faults"): TdxFault,
}


def scenario_reference(scenarios: Path = REFERENCE_CLAIMS.parent) -> str:
    """The page, as Markdown of a file in a folder beside `scenarios`, which its links lead to."""
    return "\n".join(_lines(Examples(scenarios)))


def _lines(examples: Examples) -> Iterator[str]:
    yield _HEAD
    yield from _table(Scenario, without=set(Scenario.model_fields) - set(TOP_KEYS), required=REQUIRED_KEYS)

    yield from _section("claims", "The id of a reference claim, or a mapping:", examples.entry("claims", "known"))
    yield from _table(Claim)
    yield from _table(ClaimUse, without={"claim"})
    for location, model in _MAPPINGS.items():
        yield from _section(" ".join(location), model.__doc__, examples.at(*location))
        yield from _table(model)
    yield from _section("trace", f"{Probe.__doc__} Its name alone will do.", examples.entry("trace", "fetch"))
    yield from _table(Probe)
    yield from _section("points", Point.__doc__, examples.entry("points"))
    yield from _table(Point)
    kinds = ", ".join(f"[{kind}](#step-{kind})" for kind in ACTOR_KINDS)
    yield from _section("actors", f"By name, a step of one of these kinds: {kinds}.", examples.entry("actors"))

    yield from _section("steps", _KEYED)
    yield from _table(GuestStep)
    for kind, step in STEP_KINDS.items():
        yield from _section(f"step {kind}", _of_step(step), examples.entry("steps", kind), level=3)
        yield from _table(step, without=GuestStep.model_fields)
    yield from _section("expectations", _KEYED)
    yield from _table(InWindow)
    for kind, expectation in EXPECTATION_KINDS.items():
        yield from _section(f"expect {kind}", expectation.__doc__, examples.entry("expect", kind), level=3)
        yield from _table(expectation, without=InWindow.model_fields)

    yield from _section("values", "What may stand where a type is named:")
    yield "| type | |\n|---|---|"
    yield from (f"| {word} | {meaning} |" for word, meaning in MEANINGS.items())


def _of_step(step: type[Step]) -> str:
    pinned = "" if issubclass(step, GuestStep) else "; there is no `cpu`, since no command in the guest does it"
    return f"{step.__doc__}\n\n`within` is {step.default_within:g}s when it is left out{pinned}."


def _section(title: str, text: str | None, example: Example | None = None, level: int = 2) -> Iterator[str]:
    yield f"\n{'#' * level} {title}\n\n{_paragraphs(text or '')}\n"
    if example is not None:
        yield f"```yaml\n{example.text}\n```\n"
        yield f"([{example.path}, line {example.line}](../scenarios/{example.path}))\n"


def _paragraphs(text: str) -> str:
    """A docstring as it is, without the indentation that the lines after the first have."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _table(model: type[BaseModel], without: Iterable[str] = (), required: Iterable[str] = ()) -> Iterator[str]:
    left_out = set(without)
    fields = {name: field for name, field in model.model_fields.items() if name not in left_out}
    if not fields:
        return
    yield "| key | takes | default | |\n|---|---|---|---|"
    for name, field in fields.items():
        needed = field.is_required() or name in required
        default = "*required*" if needed else f"`{default_of(field)}`" if default_of(field) else ""
        yield f"| `{field.alias or name}` | {type_of(model, name)} | {default} | {field.description} |"
    yield ""
