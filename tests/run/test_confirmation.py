"""The runs that show whether an engine works: any engine can do them, and they say something."""

from __future__ import annotations

import pytest

from harness.machine.engine import ENGINES, Engine
from harness.paths import PROJECT
from harness.run.confirmation import KERNELS, SCENARIOS
from harness.scenario.load import load_scenario
from harness.scenario.model import Scenario

LOADED = [load_scenario(PROJECT / "scenarios" / f"{name}.yaml") for name in SCENARIOS]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.label)
@pytest.mark.parametrize("scenario", LOADED, ids=lambda scenario: scenario.name)
def test_every_engine_has_what_they_need(scenario: Scenario, engine: Engine) -> None:
    assert engine.lacks(scenario.machine) == ""


def test_they_have_claims_for_both_kernels_and_somebody_is_held() -> None:
    assert all(scenario.claims for scenario in LOADED)
    assert all(set(KERNELS) <= set(scenario.kernels) for scenario in LOADED if "during" not in scenario.name)
    assert any(scenario.points for scenario in LOADED)
