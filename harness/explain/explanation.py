"""What is told about a word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A heading, and one line per item."""

    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """`kind` says what the word is: claim, function, step. Sections without lines are left out."""

    kind: str
    name: str
    text: str
    sections: tuple[Section, ...]


def explanation(kind: str, name: str, text: str | None, sections: Mapping[str, Iterable[str]]) -> Explanation:
    """From a docstring or paragraphs, and lines by heading."""
    made = (Section(heading, tuple(lines)) for heading, lines in sections.items())
    return Explanation(kind, name, _flowing(text or ""), tuple(section for section in made if section.lines))


def _flowing(text: str) -> str:
    """Each paragraph on one line."""
    return "\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))
