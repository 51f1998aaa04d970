"""Types and defaults of fields, in words."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from harness.reference.values import MEANINGS, default_of, type_of
from harness.scenario.expectations import EXPECTATION_KINDS, Count, Returns, Virt
from harness.scenario.kinds import Id, Seconds, Selector
from harness.scenario.machine import CpuSection, TdxFault
from harness.scenario.model import ClaimUse, Scenario
from harness.scenario.steps import STEP_KINDS, Cpu, Load


class _Model(BaseModel):
    plain: str
    bounded: Annotated[int, Field(ge=1, le=8)] = 3
    from_one: Annotated[int, Field(ge=1)] = 1
    below: Annotated[int, Field(ge=0, lt=16)] = 0
    one_of: Literal["a", "b", "c"] | list[Cpu] | None = None
    wait: Seconds | None = None
    renamed: Annotated[Id, Field(alias="is")] = ""
    events: Annotated[list[Selector], Field(min_length=2)] = []
    switch: bool = False


@pytest.mark.parametrize(
    ("field", "words", "default"),
    [
        ("plain", "text", ""),
        ("bounded", "number 1–8", "3"),
        ("from_one", "number from 1", "1"),
        ("below", "number below 16", "0"),
        ("one_of", "`a`, `b`, `c` or list of CPU", ""),
        ("wait", "duration", ""),
        ("renamed", "id", ""),
        ("events", "list of event", ""),
        ("switch", "yes or no", "false"),
    ],
)
def test_a_field_in_words(field: str, words: str, default: str) -> None:
    assert type_of(_Model, field) == words
    assert default_of(_Model.model_fields[field]) == default


@pytest.mark.parametrize(
    ("model", "field", "words"),
    [
        (Load, "params", "text → parameter"),
        (Virt, "on", "`all`, `none` or list of CPU"),
        (Returns, "is_", "return value"),
        (Count, "is_", "number from 0"),
        (CpuSection, "vmx", "CPU → VMX control → `false`"),
        (TdxFault, "times", "number from 1 or `always`"),
        (ClaimUse, "known", "text → `confirmed`, `violated` or `not exercised`"),
        (Scenario, "points", "id → [point](#points)"),
    ],
)
def test_fields_of_scenarios(model: type[BaseModel], field: str, words: str) -> None:
    assert type_of(model, field) == words


def test_every_field_of_every_kind_has_a_type() -> None:
    for model in (*STEP_KINDS.values(), *EXPECTATION_KINDS.values()):
        for name in model.model_fields:
            assert type_of(model, name)


def test_words_that_are_no_plain_types_are_explained() -> None:
    assert {"duration", "event", "kernels", "window", "outcomes", "return value", "id"} <= MEANINGS.keys()
