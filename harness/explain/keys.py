"""What a scenario may say: kinds of steps and expectations, keys, events of the platform; read off the models."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping

from pydantic import BaseModel

from harness.explain.explanation import Explanation, explanation
from harness.reference.examples import Example, Examples
from harness.reference.values import MEANINGS, default_of, type_of
from harness.scenario.expectations import EXPECTATION_KINDS, InWindow
from harness.scenario.load import REFERENCE_CLAIMS, TOP_KEYS
from harness.scenario.machine import CpuSection, MachineSection, TdxFault, TdxSection
from harness.scenario.model import Claim, ClaimUse, Point, Probe, Scenario
from harness.scenario.platform_events import FAILURES, PLATFORM_EVENTS
from harness.scenario.steps import ACTOR_KINDS, STEP_KINDS, GuestStep, Step

# Where keys stand -> the models that have them, and what such a thing is called.
_SECTIONS: Mapping[str, tuple[type[BaseModel], ...]] = {
    "claims": (Claim, ClaimUse),
    "machine": (MachineSection,),
    "machine.cpu": (CpuSection,),
    "machine.tdx": (TdxSection,),
    "machine.tdx.faults": (TdxFault,),
    "trace": (Probe,),
    "points": (Point,),
    "steps": (GuestStep,),
    "expect": (InWindow,),
}


def steps() -> Iterable[str]:
    return STEP_KINDS


def expectations() -> Iterable[str]:
    return EXPECTATION_KINDS


def every_key() -> set[str]:
    """Every key, alone and with the section that it is of: `feat_ctl`, `machine.cpu.feat_ctl`."""
    return {word for place in _places() for word in (place, place.rpartition(".")[2])}


def platform_events() -> Iterable[str]:
    return PLATFORM_EVENTS


def explain_step(name: str) -> Explanation:
    model = STEP_KINDS[name]
    actor = "It can be an actor." if name in ACTOR_KINDS else "It cannot be an actor."
    text = f"{model.__doc__}\n\nUnless `within` says otherwise it may take {model.default_within:g} s. {actor}"
    beside = GuestStep if issubclass(model, GuestStep) else Step
    keys, others = list(_keys(model, without=beside.model_fields)), list(_keys(beside))
    return explanation(
        "step",
        name,
        text,
        {
            "keys": keys,
            "beside it": others,
            "values": _values(keys, others),
            "example": _example(_examples().entry("steps", name)),
            "read more": ["docs/scenarios.md#steps"],
        },
    )


def explain_expectation(name: str) -> Explanation:
    model = EXPECTATION_KINDS[name]
    beside = model.model_fields.keys() & InWindow.model_fields.keys()
    keys = list(_keys(model, without=beside))
    others = list(_keys(model, without=model.model_fields.keys() - beside))
    return explanation(
        "expectation",
        name,
        model.__doc__,
        {
            "keys": keys,
            "beside it": others,
            "values": _values(keys, others),
            "example": _example(_examples().entry("expect", name)),
            "read more": ["docs/scenarios.md#expectations"],
        },
    )


def explain_key(name: str) -> Explanation:
    """Of a key of one section or of several."""
    found = {place: list(_key(place)) for place in _places() if name in (place, place.rpartition(".")[2])}
    return explanation(
        "key",
        name,
        "",
        {
            **found,
            "values": _values(*(lines[:1] for lines in found.values())),
            "read more": ["docs/scenarios.md#the-keys-of-a-scenario"],
        },
    )


def explain_platform_event(name: str) -> Explanation:
    arguments = (*PLATFORM_EVENTS[name], *FAILURES)
    return explanation(
        "event of the platform",
        name,
        "Seen on the engine tcg-vmx, from the kernel's first C function to its last, without an entry in `trace`.",
        {
            "arguments": [", ".join(arguments)],
            "read more": ["docs/scenarios.md#events-of-the-platform"],
        },
    )


@functools.cache
def _examples() -> Examples:
    return Examples(REFERENCE_CLAIMS.parent)


@functools.cache
def _places() -> dict[str, tuple[type[BaseModel], str]]:
    """By its full name, the model that has a key, and its field's name there."""
    found: dict[str, tuple[type[BaseModel], str]] = {key: (Scenario, key) for key in TOP_KEYS}
    for section, models in _SECTIONS.items():
        for model in models:
            for name, field in model.model_fields.items():
                found[f"{section}.{field.alias or name}"] = (model, name)
    del found["claims.claim"]  # where a ClaimUse keeps its Claim
    return found


def _key(place: str) -> Iterator[str]:
    model, name = _places()[place]
    yield from _field(model, name)
    example = _examples().at(*place.split("."))
    yield from _example(example)


def _keys(model: type[BaseModel], without: Iterable[str] = ()) -> Iterator[str]:
    left_out = set(without)
    for name in model.model_fields:
        if name not in left_out:
            yield from _field(model, name)


def _field(model: type[BaseModel], name: str) -> Iterator[str]:
    field = model.model_fields[name]
    takes = re.sub(r"\[([^\]]+)\]\(#[^)]*\)", r"\1", type_of(model, name))
    default = "required" if field.is_required() else f"default {default_of(field)}" if default_of(field) else ""
    yield f"{field.alias or name}: {field.description or ''} [{', '.join(filter(None, (takes, default)))}]"


def _values(*fields: Iterable[str]) -> Iterator[str]:
    """What the types mean that are named in brackets behind the keys."""
    takes = " ".join(line.rpartition("[")[2] for lines in fields for line in lines)
    yield from (f"{word}: {text}" for word, text in MEANINGS.items() if re.search(rf"\b{re.escape(word)}\b", takes))


def _example(example: Example | None) -> Iterator[str]:
    if example:
        yield f"scenarios/{example.path}:{example.line}"
        yield from (f"    {line}" for line in example.text.splitlines())
