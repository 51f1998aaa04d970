"""The scenario reference has every key, each with what it is."""

from __future__ import annotations

import re
from functools import cache

import pytest
from pydantic import BaseModel

from harness.reference.scenario import scenario_reference
from harness.scenario.expectations import EXPECTATION_KINDS, InWindow
from harness.scenario.load import TOP_KEYS
from harness.scenario.machine import CpuSection, MachineSection, TdxFault, TdxSection
from harness.scenario.model import Claim, ClaimUse, Point, Probe
from harness.scenario.steps import STEP_KINDS, GuestStep, Step

MODELS: dict[str, type[BaseModel]] = {
    "claims": Claim,
    "machine": MachineSection,
    "machine cpu": CpuSection,
    "machine tdx": TdxSection,
    "machine tdx faults": TdxFault,
    "trace": Probe,
    "points": Point,
    "steps": GuestStep,
    "expectations": InWindow,
    **{f"step {kind}": model for kind, model in STEP_KINDS.items()},
    **{f"expect {kind}": model for kind, model in EXPECTATION_KINDS.items()},
}


@cache
def sections() -> dict[str, str]:
    """Heading -> what stands under it; "" -> the head of the page."""
    parts = re.split(r"^#{2,3} (.*)$", scenario_reference(), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def keys(section: str) -> list[str]:
    return re.findall(r"^\| `([\w-]+)` \|", sections()[section], re.MULTILINE)


@pytest.mark.parametrize("section", MODELS)
def test_a_section_has_the_keys_of_its_model(section: str) -> None:
    model = MODELS[section]
    common = {"step": set(GuestStep.model_fields), "expect": set(InWindow.model_fields)}
    left_out = common.get(section.split()[0], set()) if " " in section else set()
    own = [field.alias or name for name, field in model.model_fields.items() if name not in left_out]
    more = [name for name in ClaimUse.model_fields if name != "claim"] if model is Claim else []
    assert keys(section) == [*own, *more]


def test_the_head_has_the_keys_of_a_file() -> None:
    assert sorted(keys("")) == sorted(TOP_KEYS)
    assert "| `title` | text | *required* |" in sections()[""]
    assert "| `about` | text |  |" in sections()[""]


def test_every_field_says_what_it_is() -> None:
    """A model's field without a docstring would be an empty cell, here and in editors."""
    assert "None |" not in scenario_reference()
    models: list[type[BaseModel]] = [*MODELS.values(), ClaimUse, Step]
    for model in models:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


@pytest.mark.parametrize("section", [section for section in MODELS if section not in ("steps", "expectations")])
def test_a_section_shows_a_scenario_that_has_it(section: str) -> None:
    text = sections()[section]
    assert "```yaml\n" in text, "no scenario of scenarios/ shows it"
    kind = section.split()[-1]
    shown = text.split("```yaml\n")[1].split("```")[0]
    assert kind in ("claims", "trace", "points") or f"{kind}:" in shown
