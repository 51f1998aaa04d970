"""What the harness is doing now, for a person who waits.

Stages call `progress.task("fetch linux-image …")` as a context manager and never know whether anybody looks:
harness/display.py shows it, and a process that works for another one sends it there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.display import HERE, Display, Level, Message

_LINE_EVERY_S = 15.0

_display = Display()
_relay: Callable[[Message], None] | None = None


def set_level(level: Level) -> None:
    """How much is told from now on: -q, -v."""
    _display.level = level


def level() -> Level:
    return _display.level


def relay(send: Callable[[Message], None], level: Level) -> None:
    """From now on, everything goes to somebody else, who shows it, and nothing is displayed here."""
    global _relay
    _relay = send
    set_level(level)


def show(lane: str, message: Message) -> None:
    """Shows what a lane of another process says."""
    if _relay is None:
        _display.take(lane, message)
    elif message.kind in ("note", "detail"):
        _relay(Message(message.kind, f"{lane}: {message.text}"))


@dataclass
class Task:
    """What is being done. `outcome` may be given a few words on what came of it."""

    what: str
    outcome: str = ""

    @property
    def line(self) -> str:
        return f"{self.what}: {self.outcome}" if self.outcome else self.what


@contextmanager
def task(what: str, limit: float | None = None) -> Iterator[Task]:
    """Shows `what` while the block runs, and how long it took when it is done; `limit` is how many seconds it may."""
    begin = time.monotonic()
    doing = Task(what)
    _tell(Message("begin", what, limit))
    try:
        yield doing
    except BaseException:
        doing.outcome = doing.outcome or "not done"
        raise
    finally:
        _tell(Message("end", doing.line, time.monotonic() - begin))


@contextmanager
def counter(what: str) -> Iterator[Callable[[str], None]]:
    """Gives a function that shows how far `what` is: on a terminal in place, elsewhere as a line now and then."""
    with task(what):
        yield _Counter(what).show


@dataclass
class _Counter:
    what: str
    last: float = -math.inf

    def show(self, text: str) -> None:
        _tell(Message("count", text))
        if not _display.animated and time.monotonic() - self.last >= _LINE_EVERY_S:
            self.last = time.monotonic()
            note(f"{self.what}: {text}")


def done(what: str, seconds: float) -> None:
    """A line about something that was done elsewhere, and took `seconds`."""
    _tell(Message("done", what, seconds))


def note(text: str) -> None:
    """One line that stays, such as a fall-back that was chosen and why."""
    _tell(Message("note", text))


def detail(text: str) -> None:
    """One line for those who want to know everything."""
    if level() is Level.VERBOSE:
        _tell(Message("detail", text))


def _tell(message: Message) -> None:
    if _relay is not None:
        _relay(message)
    else:
        _display.take(HERE, message)
