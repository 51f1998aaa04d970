"""What the project's own files say: its scenarios and mutants, read once."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.mutants.mutant import MUTANTS, Mutant, load_mutant
from harness.scenario.load import REFERENCE_CLAIMS, load_scenario, scenario_files
from harness.scenario.model import Scenario

# Where a function begins: after a hunk's numbers, or at the left margin; a label or a declaration is none.
_BEGIN = re.compile(r"(?:@@ [-+\d, ]+ @@|[ +-](?=[A-Za-z_]))[^=;]*?(\w+)\([^;]*$")


@functools.cache
def scenarios() -> tuple[Scenario, ...]:
    """All scenarios of the project."""
    return tuple(load_scenario(path) for path in scenario_files())


def place(scenario: Scenario) -> str:
    """A scenario as a path below `scenarios`, without its ending: races/reboot-during-load."""
    return str(scenario.path.relative_to(REFERENCE_CLAIMS.parent).with_suffix(""))


@dataclass(frozen=True)
class Patch:
    """A mutant, the functions that it changes, and the lines that it adds and removes."""

    mutant: Mutant
    version: str  # the folder that it is in: 6.12
    functions: frozenset[str]
    changes: str

    def touches(self, function: str) -> bool:
        """Whether it changes the function, or calls of it."""
        return function in self.functions or re.search(rf"\b{re.escape(function)}\(", self.changes) is not None


@functools.cache
def patches() -> tuple[Patch, ...]:
    """All mutants of the project."""
    return tuple(_patches())


def _patches() -> Iterator[Patch]:
    for path in sorted(MUTANTS.rglob("*.patch")):
        lines = _diff(path.read_text(errors="replace"))
        changes = "\n".join(line for _, line in lines)
        yield Patch(load_mutant(path), path.parent.name, frozenset(name for name, _ in lines if name), changes)


def _diff(text: str) -> list[tuple[str, str]]:
    """The lines that a diff adds and removes, each with the function that it is in, as far as the diff shows."""
    found, function = [], ""
    hunks = text[text.find("\n@@") + 1 :]
    for line in hunks.splitlines():
        if begin := _BEGIN.match(line):
            function = begin[1]
        elif line.startswith("@@"):
            function = ""
        if line.startswith(("+", "-")) and not line.startswith(("+++", "---")):
            found.append((function, line))
    return found
