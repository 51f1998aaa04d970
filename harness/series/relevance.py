"""Which scenarios are about what a patch touches, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.scenario.functions import REAL_NAMES
from harness.scenario.load import REFERENCE_CLAIMS
from harness.scenario.model import Scenario
from harness.series.touched import Touched

# What every change of KVM's bring-up may break: where nothing is known of what a patch touches.
_STANDARD = ("load-unload", "vm-lifecycle", "hotplug", "failed-enable", "suspend", "reboot")
_STANDARD_TDX = ("tdx/bring-up", "tdx/load-unload", "tdx/hotplug", "tdx/reboot")

# Where a task is held there is a race over the function; what is judged says more than what is merely traced.
_HELD, _JUDGED, _CLAIMED, _TRACED = 3.0, 2.0, 2.0, 1.0
# A function that was changed itself, and one that a changed line speaks of.
_CHANGED, _MENTIONED = 1.0, 0.5

_LEAST = 0.1  # no weight, or no new claim, is not nothing

_FUNCTION = re.compile(r"\b(\w+)\(\)")


@dataclass(frozen=True)
class Interest:
    """A function that a scenario is about: how much and in what way, and under which names kernels have it."""

    weight: float
    how: str  # with the scenario's name for the function
    symbols: frozenset[str]


@dataclass(frozen=True)
class Chosen:
    """A scenario, what of it the patch touches, in words, and how much that is."""

    scenario: Scenario
    why: tuple[str, ...]
    weight: float = 0.0


def choose(scenarios: Sequence[Scenario], what: Touched) -> list[Chosen]:
    """The scenarios that are about what was touched, those with most to do with it and with new claims first.

    A scenario is about the functions that its points, probes and expectations name, and those that its claims speak
    of. Where no scenario is about a function that was changed, the standard ones are among them.
    """
    found = [_weighed(scenario, what) for scenario in scenarios]
    chosen = [one for one in found if one.why]
    if not any(interest.symbols & what.functions for one in chosen for interest in interests(one.scenario)):
        there = {one.scenario.path for one in chosen}
        why = ("of the standard set: no scenario is about a function that is changed",)
        chosen += [Chosen(one, why) for one in scenarios if _is_standard(one.path) and one.path not in there]
    return _varied(chosen)


def interests(scenario: Scenario) -> list[Interest]:
    """The functions that a scenario is about, the closest first."""
    selectors = {selector.name for expectation in scenario.expect for selector in expectation.selectors}
    rows = [
        *((_HELD, f"holds a task in {point.function}", point.function) for point in scenario.points.values()),
        *((_JUDGED, f"judges {name}", name) for name in sorted(selectors)),
        *(
            (_CLAIMED, f"{use.claim.id} speaks of {function}", function)
            for use in scenario.claims
            for function in _FUNCTION.findall(f"{use.claim.source} {use.claim.text}")
        ),
        *((_TRACED, f"traces {probe.function}", probe.function) for probe in scenario.trace if probe.function),
    ]
    return [Interest(weight, how, _symbols(name)) for weight, how, name in dict.fromkeys(rows)]


def _varied(chosen: Sequence[Chosen]) -> list[Chosen]:
    """Ordered so that the first few decide many claims: of those with a like weight, the one with most new claims."""
    left, ordered = list(chosen), list[Chosen]()
    decided: set[str] = set()

    def gain(one: Chosen) -> float:
        return (one.weight + _LEAST) * (_LEAST + len(_claims(one) - decided) / len(_claims(one)))

    while left:
        best = max(left, key=gain)
        left.remove(best)
        ordered.append(best)
        decided |= _claims(best)
    return ordered


def _claims(one: Chosen) -> set[str]:
    return {use.claim.id for use in one.scenario.claims}


def _weighed(scenario: Scenario, what: Touched) -> Chosen:
    weights: dict[str, float] = {}
    for interest in interests(scenario):
        for symbols, factor in ((what.functions, _CHANGED), (what.names, _MENTIONED)):
            if interest.symbols & symbols:
                weights.setdefault(interest.how, interest.weight * factor)
    return Chosen(scenario, tuple(sorted(weights, key=lambda how: -weights[how])), sum(weights.values()))


def _symbols(name: str) -> frozenset[str]:
    return frozenset(row.symbol for row in REAL_NAMES[name]) if name in REAL_NAMES else frozenset({name})


def _is_standard(path: Path) -> bool:
    if not path.is_relative_to(REFERENCE_CLAIMS.parent):
        return False
    return str(path.relative_to(REFERENCE_CLAIMS.parent).with_suffix("")) in (*_STANDARD, *_STANDARD_TDX)
