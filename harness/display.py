"""What is going on, as a person sees it on stderr: a live display on a terminal, a few plain lines elsewhere.

`Board` knows what is being done, by lanes: this process has one, and so has each task that is done in a process of
its own. `Display` shows it. Both take the messages that harness/progress.py makes.
"""

from __future__ import annotations

import enum
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from harness.visible import VisibleConsole

HERE = ""  # the lane of this process

# In a log, what is part of something else has a line only if it took this long: a fetch, a build.
_WORTH_A_LINE_S = 30.0
_REFRESH_PER_S = 8.0
_SPINNER = "dots"
_MARGIN = " " * 10  # as wide as the seconds before a task that is done


class Level(enum.IntEnum):
    """How much is told."""

    QUIET = 0  # -q
    NORMAL = 1
    VERBOSE = 2  # -v


@dataclass(frozen=True)
class Message:
    """Something that is begun, done or to be known. Picklable: workers send theirs.

    `seconds` of begin is how long it may take, if that is known; of end, how long it took. `over` ends all that a
    lane does, without a word; `done` is a word, and ends nothing.
    """

    kind: Literal["begin", "count", "end", "over", "done", "note", "detail"]
    text: str
    seconds: float | None = None


@dataclass
class Doing:
    """Something that is being done. `began` is monotonic."""

    what: str
    began: float
    limit: float | None = None
    count: str = ""  # how far it is

    def clock(self, now: float) -> str:
        """`3 s`, or `3 of 60 s` where there is a limit."""
        passed = f"{now - self.began:.0f}"
        return f"{passed} s" if self.limit is None else f"{passed} of {self.limit:g} s"


@dataclass
class Board:
    """What is being done: by lane, the outermost first."""

    lanes: dict[str, list[Doing]] = field(default_factory=dict)

    def take(self, lane: str, message: Message, now: float) -> int:
        """Brings the board up to date; returns how deep in its lane the message belongs, 0 for the outermost."""
        stack = self.lanes.setdefault(lane, [])
        if message.kind == "begin":
            stack.append(Doing(message.text, now, message.seconds))
            return len(stack) - 1
        if message.kind == "count" and stack:
            stack[-1].count = message.text
        if message.kind == "end" and stack:
            stack.pop()
        if message.kind == "over":
            stack.clear()
        depth = len(stack)
        if not stack:
            del self.lanes[lane]
        return depth

    @property
    def busy(self) -> bool:
        return bool(self.lanes)

    def render(self, now: float) -> Table:
        """A line for each lane: the outermost and the innermost of what is being done there, and for how long."""
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column()
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, justify="right", style="dim")
        for stack in [[*stack] for stack in [*self.lanes.values()] if stack]:
            outer, inner = stack[0], stack[-1]
            words = [outer.what] if inner is outer else [outer.what, inner.what]
            table.add_row(
                Spinner(_SPINNER),
                Text(" · ".join([*words, *([inner.count] if inner.count else [])])),
                Text(inner.clock(now)),
            )
        return table


class Display:
    """Shows what it is told on `console`, as much as `level` says."""

    def __init__(self, console: Console | None = None) -> None:
        # stderr, so that stdout stays a clean table or JSON document.
        self._console = console or VisibleConsole(stderr=True, highlight=False)
        self._board = Board()
        self._live: Live | None = None
        self._lock = threading.RLock()
        self.level = Level.NORMAL

    def take(self, lane: str, message: Message) -> None:
        """Shows a message of a lane."""
        with self._lock:
            depth = self._board.take(lane, message, time.monotonic())
            if self.level is Level.QUIET:
                return
            if self._has_line(lane, message, depth):
                self._line(lane, message, depth)
            self._follow()

    def _has_line(self, lane: str, message: Message, depth: int) -> bool:
        """Whether there is a line of it that stays."""
        if message.kind in ("count", "over"):
            return False
        if message.kind in ("note", "done") or self.level is Level.VERBOSE:
            return True
        if message.kind != "end":
            return False
        alone = self.animated and lane == HERE
        return depth == 0 or alone or (message.seconds or 0) >= _WORTH_A_LINE_S

    def _line(self, lane: str, message: Message, depth: int) -> None:
        text = message.text if lane == HERE else f"{lane}: {message.text}"
        match message.kind:
            case "end" | "done":
                line = Text.assemble((f"{message.seconds or 0:6.1f} s", "dim"), "  ", "  " * depth, text)
            case "begin":
                limit = "" if message.seconds is None else f", at most {message.seconds:g} s"
                line = Text.assemble(_MARGIN, "  " * depth, (f"{text}{limit} …", "dim"))
            case "detail":
                line = Text.assemble(_MARGIN, "  " * depth, (text, "dim"))
            case _:
                line = Text.assemble(_MARGIN, text)
        self._console.print(line, soft_wrap=True)

    @property
    def animated(self) -> bool:
        """Whether lines can be changed after they were written. Not by rich's word: FORCE_COLOR makes it believe in
        a terminal where there is a file."""
        return self._console.file.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")

    def _follow(self) -> None:
        """Has the live part there when something is being done, and only then."""
        if self._live is None and self._board.busy and self.animated:
            self._live = Live(
                get_renderable=lambda: self._board.render(time.monotonic()),
                console=self._console,
                refresh_per_second=_REFRESH_PER_S,
                transient=True,
                # What is printed on stdout is for whoever reads stdout.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        elif self._live is not None and not self._board.busy:
            live, self._live = self._live, None
            live.stop()
