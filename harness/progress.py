"""What the harness is doing now, for a person who waits.

Stages call `progress.task("fetch linux-image …")` as a context manager and never know whether
anybody looks: on a terminal it is a rich status line, elsewhere one plain line per task on stderr.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

# stderr, so that stdout stays a clean table or JSON document.
_console = Console(stderr=True, highlight=False)
_quiet = False
_relay: Callable[[str], None] | None = None
_LINE_EVERY_S = 15.0
_stack: list[str] = []


def set_quiet(quiet: bool) -> None:
    """Silences the display (-q)."""
    global _quiet
    _quiet = quiet


def relay(notes: Callable[[str], None]) -> None:
    """From now on, notes go to somebody else who shows them, and nothing is displayed here."""
    global _relay
    _relay = notes
    set_quiet(True)


@contextmanager
def task(what: str) -> Iterator[None]:
    """Shows `what` while the block runs, and how long it took when it is done."""
    begin = time.monotonic()
    _stack.append(what)
    try:
        if _quiet:
            yield
        elif _console.is_terminal and len(_stack) == 1:
            with _console.status(what):
                yield
        else:
            yield
    finally:
        _stack.pop()
    done(what, time.monotonic() - begin)


def done(what: str, seconds: float) -> None:
    """A line about a task that is done, and took `seconds`."""
    if not _quiet:
        _console.print(f"[dim]{seconds:6.1f} s[/dim]  {'  ' * len(_stack)}{what}")
        sys.stderr.flush()


@contextmanager
def counter(what: str) -> Iterator[Callable[[str], None]]:
    """Gives a function that shows how far `what` is: on a terminal in place, elsewhere as a line now and then."""
    if _quiet:
        yield lambda text: None
    elif _console.is_terminal:
        with _console.status(what) as status:
            yield lambda text: status.update(f"{what}: {text}")
    else:
        yield _Lines(what).show


@dataclass
class _Lines:
    """A counter for a log."""

    what: str
    last: float = -math.inf

    def show(self, text: str) -> None:
        if time.monotonic() - self.last >= _LINE_EVERY_S:
            self.last = time.monotonic()
            note(f"{self.what}: {text}")


def note(text: str) -> None:
    """One line that stays, such as a fall-back that was chosen and why."""
    if _relay is not None:
        _relay(text)
    elif not _quiet:
        _console.print(f"          {text}", markup=False)
