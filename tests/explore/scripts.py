"""Scripts for tests: what all schedules of an exploration have in common."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.explore.activities import ACTIVITIES, Cast
from harness.explore.scenario import Script
from harness.explore.schedules import Schedule
from harness.scenario.load import build_scenario
from harness.scenario.model import Scenario
from harness.scenario.yaml_file import parse_yaml

PAIRS = [names for names in itertools.combinations(ACTIVITIES, 2) if not all(ACTIVITIES[name].ends for name in names)]


def script(names: Sequence[str], version: str = "6.12.95", platform: bool = True) -> Script:
    """As if every activity came to all its points on this kernel."""
    cast = Cast.of(names)
    points = {name: cast[name].points_on(version, cast.others(name)) for name in cast.names}
    command = f"harness explore {' '.join(names)} --kernel debian:6.12"
    return Script(cast, points, "debian:6.12", version.startswith("6.1."), platform, command)


def loaded(text: str) -> Scenario:
    """The scenario that `text` is. Raises ScenarioError."""
    return build_scenario(parse_yaml(Path("schedule.yaml"), text))


def as_alone(begun: Schedule) -> Mapping[str, int]:
    """Where activities stand that come to one point after the other."""
    return {name: begun.count(name) + 1 for name in ACTIVITIES}
