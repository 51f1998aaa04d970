"""Text out of a guest, a patch or a mail, without what would be obeyed where it is shown: escapes of a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text


class VisibleConsole(Console):
    """A console on which no text moves the cursor, names the window or types answers."""

    def render_str(self, text: str, **more: Any) -> Text:
        # Before anything is measured: a cell of a table is as wide as its text.
        return super().render_str(visible(text), **more)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def visible(text: str, harmful: Sequence[str] = ()) -> str:
    """Control characters (but tab and newline), halves of surrogate pairs and `harmful` ones as escapes: \\x1b."""
    return "".join(_escape(char) if char in harmful or not _legal(char) else char for char in text)


def _legal(char: str) -> bool:
    """Whether XML 1.0 admits it (section 2.2), and a terminal stays as it is."""
    code = ord(char)
    return char in "\t\n" or 0x20 <= code < 0x7F or 0xA0 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or code > 0xFFFF


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
