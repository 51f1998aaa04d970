"""What a guest or a mail says is shown, and never obeyed."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from harness.display import HERE, Display, Message
from harness.report.terminal import results_console
from harness.visible import VisibleConsole, visible

HOSTILE = "red \x1b[31m, titled \x1b]0;x\x07, gone\r\x9b2K"
SHOWN = "red \\x1b[31m, titled \\x1b]0;x\\x07, gone\\x0d\\x9b2K"


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("a\tb\nc ✓") == "a\tb\nc ✓"


def test_a_console_shows_it_wherever_it_stands() -> None:
    table = Table("head")
    table.add_row(HOSTILE.replace("[", "\\["))
    for renderable in (HOSTILE.replace("[", "\\["), table):
        file = io.StringIO()
        VisibleConsole(file=file, width=120).print(renderable)
        assert SHOWN in file.getvalue()
        assert not set(file.getvalue()) & {"\x1b", "\x07", "\r", "\x9b"}


def test_colours_of_ours_are_left() -> None:
    file = io.StringIO()
    VisibleConsole(file=file, force_terminal=True, color_system="standard").print("[red]x[/]")
    assert file.getvalue() == "\x1b[31mx\x1b[0m\n"


def test_results_and_progress_are_shown_on_such_a_console() -> None:
    assert isinstance(results_console(), VisibleConsole)
    console = Display()._console
    assert isinstance(console, VisibleConsole) and isinstance(console, Console)
    with console.capture() as captured:
        Display(console).take(HERE, Message("note", HOSTILE))
    without_what_rich_drops = SHOWN.replace("\\x07", "").replace("\\x0d", "")
    assert without_what_rich_drops in captured.get()
