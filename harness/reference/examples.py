"""Real examples: the first place in a folder of scenarios that shows something, as it is written there."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.scenario.load import scenario_files
from harness.scenario.yaml_file import Document, Location, read_yaml


@dataclass(frozen=True)
class Example:
    """Lines of the scenario `path` (relative to the folder), from number `line` on, without their indentation."""

    path: Path
    line: int
    text: str


class Examples:
    """The scenarios of a folder, read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._documents = [read_yaml(path) for path in scenario_files(folder)]

    def entry(self, section: str, key: str = "") -> Example | None:
        """The first entry of a section (a list or a mapping of names) that is a mapping and has the key."""
        for document in self._documents:
            for name, entry in _entries(document.data.get(section, {})):
                if isinstance(entry, Mapping) and (not key or key in entry):
                    return self._example(document, (section, name))
        return None

    def at(self, *location: str) -> Example | None:
        """The first that there is at `location`: ("machine", "cpu")."""
        found = (document for document in self._documents if location in document.lines)
        return next((self._example(document, location) for document in found), None)

    def _example(self, document: Document, location: Location) -> Example:
        """From the location's first line to before the next thing that is not inside it."""
        start = document.lines[location]
        inside = len(location)
        later = [line for other, line in document.lines.items() if line > start and other[:inside] != location]
        lines = document.path.read_text().splitlines()
        lines = lines[start - 1 : min(later, default=len(lines) + 1) - 1]
        while not lines[-1].strip() or lines[-1].lstrip().startswith("#"):
            lines.pop()  # what stands above the next thing
        return Example(document.path.relative_to(self._folder), start, textwrap.dedent("\n".join(lines)))


def _entries(section: Any) -> Iterable[tuple[str | int, Any]]:
    return section.items() if isinstance(section, Mapping) else enumerate(section)
