"""What a night consists of: a cell for each kernel, scenario and engine that go together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.fleet.matrix import Matrix
from harness.kernels.source import Recipe
from harness.machine.engine import Engine
from harness.scenario.load import to_yaml
from harness.scenario.machine import MachineSection
from harness.scenario.model import Scenario

# The engine that a name of the matrix (`auto` too) means for a scenario's machine.
Choice = Callable[[str, MachineSection], Engine]


@dataclass(frozen=True)
class Cell:
    """One scenario on one kernel and engine; these three names tell it from the others, in every night."""

    scenario: str
    kernel: str
    engine: str


@dataclass(frozen=True)
class Plan:
    """The cells of a night, and those that were left out because their engine lacks what the scenario asks for."""

    cells: tuple[Cell, ...]
    unfit: int
    excluded: int
    digest: str  # of what decides the cells and what they run: two plans with one digest are one


def make_plan(matrix: Matrix, choose: Choice) -> Plan:
    """Every combination but the excluded ones.

    A scenario whose machine no engine of the matrix has keeps one cell: that it is not exercised has to be seen.
    Raises UsageError for an exclusion that excludes nothing, or when nothing is left; what `choose` raises.
    """
    cells: list[Cell] = []
    unfit = excluded = 0
    used: set[int] = set()
    for name, scenario in matrix.loaded.items():
        engines = _engines(matrix.engines, scenario, choose)
        fit = [engine for engine in engines if not engine.lacks(scenario.machine)] or engines[:1]
        unfit += (len(engines) - len(fit)) * len(matrix.kernels)
        for entry in matrix.kernels:
            for engine in fit:
                hits = set(_excluding(matrix, entry.label, name, engine.name))
                used |= hits
                excluded += bool(hits)
                cells += [] if hits else [Cell(name, entry.label, engine.name)]
    for index in range(len(matrix.exclude)):
        if index not in used:
            hint = (
                "patterns are matched against the whole names of kernel, scenario and engine, as the summary has them"
            )
            raise matrix.document.error(("exclude", index), "this excludes nothing", hint)
    if not cells:
        raise UsageError(f"{matrix.path}: nothing is left to run", hint="exclude less")
    return Plan(tuple(cells), unfit, excluded, _digest(matrix, cells))


def _engines(names: Sequence[str], scenario: Scenario, choose: Choice) -> list[Engine]:
    """Each once: `auto` may be one that is named as well."""
    return list({engine.name: engine for name in names for engine in [choose(name, scenario.machine)]}.values())


def _excluding(matrix: Matrix, kernel: str, scenario: str, engine: str) -> Iterator[int]:
    return (index for index, one in enumerate(matrix.exclude) if one.covers(kernel, scenario, engine))


def scenario_digest(scenario: Scenario) -> str:
    """Equal for scenarios that ask the same."""
    return hashlib.sha256(to_yaml(scenario).encode()).hexdigest()[:16]


def _digest(matrix: Matrix, cells: Sequence[Cell]) -> str:
    data = {
        "cells": [(cell.scenario, cell.kernel, cell.engine) for cell in cells],
        "scenarios": {name: scenario_digest(one) for name, one in matrix.loaded.items()},
        "kernels": [(name, spec, Recipe.read(options).identity) for name, (spec, options) in matrix.sources.items()],
        "repeat": matrix.repeat,
    }
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
