"""What is told of what is going on: on a terminal, in a log, to those who want everything, nothing or no colour."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from rich.console import Console

from harness.display import HERE, Board, Display, Level, Message
from harness.probes.event import Event
from harness.run.narrator import line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def display(file: io.StringIO, level: Level = Level.NORMAL) -> Display:
    shown = Display(Console(file=file, width=100, force_terminal=file.isatty(), highlight=False, no_color=True))
    shown.level = level
    return shown


A_RUN = (
    Message("begin", "demo on debian:6.12"),
    Message("begin", "load kvm_vendor", 30.0),
    Message("detail", "CPU 1  kvm_online_cpu"),
    Message("end", "load kvm_vendor", 0.5),
    Message("note", "the guest boots"),
    Message("begin", "compile everything"),
    Message("end", "compile everything", 75.0),
    Message("end", "demo on debian:6.12: confirmed", 81.25),
)


def told(level: Level, lane: str = HERE) -> list[str]:
    file = io.StringIO()
    shown = display(file, level)
    for message in A_RUN:
        shown.take(lane, message)
    return file.getvalue().splitlines()


def test_a_log_has_a_line_for_the_run_what_took_long_and_notes() -> None:
    assert told(Level.NORMAL) == [
        "          the guest boots",
        "  75.0 s    compile everything",
        "  81.2 s  demo on debian:6.12: confirmed",
    ]


def test_quiet_tells_nothing_and_verbose_everything() -> None:
    assert told(Level.QUIET) == []
    assert told(Level.VERBOSE)[:4] == [
        "          demo on debian:6.12 …",
        "            load kvm_vendor, at most 30 s …",
        "              CPU 1  kvm_online_cpu",
        "   0.5 s    load kvm_vendor",
    ]


def test_what_another_process_does_is_told_with_its_name() -> None:
    assert "          other: the guest boots" in told(Level.NORMAL, "other")


def test_the_board_has_a_line_for_each_lane_with_what_it_does_how_long_and_of_how_long() -> None:
    board = Board()
    for lane in ("a on debian:6.1", "b on debian:7.3"):
        board.take(lane, Message("begin", lane), 100.0)
    board.take("a on debian:6.1", Message("begin", "hold in-window", 60.0), 103.0)
    board.take("b on debian:7.3", Message("count", "3 of 7"), 104.0)
    assert rendered(board, 110.0) == [
        "a on debian:6.1 · hold in-window 7 of 60 s",
        "b on debian:7.3 · 3 of 7 10 s",
    ]
    board.take("a on debian:6.1", Message("end", "hold in-window", 7.0), 110.0)
    board.take("b on debian:7.3", Message("over", ""), 110.0)
    assert rendered(board, 111.0) == ["a on debian:6.1 11 s"]
    assert board.busy
    board.take("a on debian:6.1", Message("over", ""), 112.0)
    assert not board.busy


def rendered(board: Board, now: float) -> list[str]:
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        console.print(board.render(now))
    return [" ".join(line.split()[1:]) for line in capture.get().splitlines()]


def test_a_message_too_many_breaks_nothing() -> None:
    board = Board()
    assert board.take(HERE, Message("end", "what was never begun"), 1.0) == 0
    assert board.take(HERE, Message("count", "4"), 1.0) == 0
    assert not board.busy


@pytest.mark.parametrize("term", ["xterm", "dumb", ""])
def test_a_terminal_is_animated_unless_it_is_dumb(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    file = Terminal()
    shown = display(file)
    for message in A_RUN:
        shown.take(HERE, message)
    hides_cursor, has_steps = "\x1b[?25l" in file.getvalue(), "   load kvm_vendor\n" in file.getvalue()
    assert (hides_cursor, has_steps) == (term == "xterm", term == "xterm")


# The real thing: a process on a real terminal.

PROGRAM = """\
import sys, time
from harness import progress
with progress.task("outer") as doing:
    with progress.task("inner", 60.0):
        time.sleep(0.4)
    print("the result")
    doing.outcome = "confirmed"
"""


def on_terminal(tmp_path: Path, stdout: Path | None = None, **environment: str) -> str:
    """What the program writes on its terminal; with `stdout`, only stderr is the terminal."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = f"{sys.executable} {program}" + (f" > {stdout}" if stdout else "")
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    child = pexpect.spawn("/bin/sh", ["-c", command], env={**plain, **environment}, encoding="utf-8", timeout=60)
    child.expect(pexpect.EOF)
    assert isinstance(child.before, str)
    return child.before


def test_on_a_terminal_the_step_its_clock_and_colours_and_stdout_is_clean(tmp_path: Path) -> None:
    text = on_terminal(tmp_path, tmp_path / "out", TERM="xterm-256color")
    assert "outer · inner" in text
    assert "0 of 60 s" in text
    assert "outer: confirmed" in text
    assert "\x1b[2m" in text  # dim
    assert (tmp_path / "out").read_text() == "the result\n"


def test_no_color_has_no_colours(tmp_path: Path) -> None:
    text = on_terminal(tmp_path, TERM="xterm-256color", NO_COLOR="1")
    assert "outer · inner" in text
    assert not [code for code in text.split("\x1b[")[1:] if code[:2] in ("31", "32", "33", "34", "35", "36")]


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    text = on_terminal(tmp_path, TERM="dumb")
    assert "\x1b" not in text
    assert [" ".join(line.split()[2:]) for line in text.splitlines() if "outer" in line] == ["outer: confirmed"]


def test_a_file_gets_plain_lines_even_where_colour_is_forced(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "TERM": "xterm", "FORCE_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "the result\n"
    assert "outer · inner" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_event_is_a_line() -> None:
    event = Event(1, 7, 2, "tracefs", "kvm_online_cpu", "return", task="cpuhp/2", pid=30, args={"cpu": 2}, ret=-5)
    assert line(event) == "CPU 2  kvm_online_cpu.return = -EIO cpu=2  cpuhp/2-30"
    message = Event(1, 8, 0, "tracefs", "console", "point", task="sh", pid=1, args={"text": "kvm_amd: hello"})
    assert line(message) == "CPU 0  | kvm_amd: hello"
