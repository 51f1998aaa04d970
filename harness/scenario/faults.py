"""All faults of one YAML file, collected so that its author sees them in one go."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.errors import ScenarioError
from harness.scenario.yaml_file import Document, Location


@dataclass
class Faults:
    """Faults found so far in `document`."""

    document: Document
    _found: list[ScenarioError] = field(default_factory=list)

    def add(self, location: Location, what: str, hint: str = "") -> None:
        """Notes a fault at a location of the document."""
        self._found.append(self.document.error(location, what, hint))

    def raise_if_any(self) -> None:
        """Raises one ScenarioError: the first fault of the file, with the others as evidence."""
        if not self._found:
            return
        first, *others = sorted(self._found, key=lambda fault: fault.line)
        if others:
            first.evidence = "\n".join(str(other) for other in others)
        raise first


def closest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or all of them."""
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {near[0]!r}?" if near else "there is: " + ", ".join(words)
