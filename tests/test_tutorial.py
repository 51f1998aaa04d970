"""docs/tutorial.md, followed to the letter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.kernels.mailbox import read_series
from harness.kernels.patches import read_patches
from harness.paths import PROJECT

TUTORIAL = PROJECT / "docs/tutorial.md"
THREAD = PROJECT / "docs/tutorial/thread.mbox"
_OMITTED = "…"


@dataclass(frozen=True)
class Command:
    """A command line of the tutorial, and the lines of its output that are shown there."""

    line: str
    output: tuple[str, ...]


def commands(text: str) -> list[Command]:
    """What follows `$ ` in the indented blocks."""
    found = []
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE):
        for part in re.split(r"^    \$ ", block, flags=re.MULTILINE)[1:]:
            line, *output = part.splitlines()
            found.append(Command(line, tuple(one for one in output if one.strip())))
    return found


def plain(line: str) -> str:
    """A line without what differs from run to run: numbers (of events, CPUs, processes), and the columns' width.

    A task that moves to another CPU between two events gets a column more, in an event's line as a space more.
    """
    words = " ".join(re.sub(r"\d+", "#", line).replace("─", "").replace("━", "").split())
    return re.sub(r"CPU #( CPU #)+", "CPU #", words)


def missing(command: Command, printed: str) -> str:
    """The first line of the tutorial that was not printed, in its place; "" when all were."""
    left = iter(map(plain, printed.splitlines()))
    for line in command.output:
        if line.strip() != _OMITTED and plain(line) not in left:
            return line
    return ""


def follow(command: Command, folder: Path) -> str:
    """What a command of the tutorial prints, in a folder that looks like the project's."""
    for name in ("docs", "scenarios"):
        if not (folder / name).exists():
            (folder / name).symlink_to(PROJECT / name)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command.line], cwd=folder, env=env, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == (1 if "--dir" in command.line else 0), done.stderr
    return done.stdout


def test_the_patch_of_the_tutorial_is_one_of_the_mutants() -> None:
    [mail] = read_series(THREAD).mails
    [mutant] = read_patches([PROJECT / "patches/mutants/6.12/misc-register-first.patch"])
    assert mail.version == 2
    assert mail.patch.sha256 == mutant.sha256


def test_commands_are_found_with_their_output() -> None:
    found = commands(TUTORIAL.read_text())
    assert [command.line.split()[1] for command in found] == ["try", "try", "report"]
    assert found[0].output[1].split() == ["touches", "kvm_init"]


def test_a_task_that_moved_has_the_same_lines() -> None:
    command = Command("x", ("    seq  CPU 1    task", "     52  ← misc_register = 0  guestctl-173"))
    moved = "seq  CPU 0               CPU 1   task\n 49  ← misc_register = 0          guestctl-171\n"
    assert missing(command, moved) == ""


def test_a_line_that_is_not_printed_is_noticed() -> None:
    command = Command("x", ("a = 1", _OMITTED, "is broken: confirmed → violated"))
    assert missing(command, "a  =  22\nb\nis broken: confirmed → violated\n") == ""
    assert missing(command, "a = 1\nis broken: confirmed → confirmed\n") == "is broken: confirmed → violated"
    assert missing(command, "is broken: confirmed → violated\na = 1\n") == "is broken: confirmed → violated"


def test_what_the_patch_is_about(tmp_path: Path) -> None:
    command = commands(TUTORIAL.read_text())[0]
    assert missing(command, follow(command, tmp_path)) == ""


@pytest.mark.boot
@pytest.mark.network
def test_the_tutorial_leads_to_its_verdict(tmp_path: Path) -> None:
    """Two kernels, two scenarios: 50 s on an idle machine."""
    for command in commands(TUTORIAL.read_text())[1:]:
        assert missing(command, follow(command, tmp_path)) == "", command.line
