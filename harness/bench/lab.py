"""The same measurements with engine kvm in an emulated lab, and with tcg-svm on this host.

Each is a command of its own, `harness bench --only engine`, since the lab's is in another machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import process
from harness.bench.setup import Setup
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.lab import lab as labs
from harness.lab.keeper import LiveLab

IN_LAB = "kvm in the lab: {}"
DIRECT = "tcg-svm: {}"
START = "start of the lab"


def _words(engine: str, answer: Path) -> Sequence[str]:
    return ("bench", "--only", "engine", "--engine", engine, "--rounds", "1", "--json", str(answer))


def _figures(names: str, answer: Path, measure: Callable[[], object]) -> Mapping[str, float]:
    """Seconds by name out of what `measure` has written to `answer`. Raises HostFault for what was not measured."""
    answer.unlink(missing_ok=True)
    measure()
    if not answer.exists():
        raise HostFault("a measurement was not written", expected=str(answer))
    [section] = json.loads(answer.read_text())["sections"]
    answer.unlink()
    for missing in section["missing"]:
        raise HostFault(f"not measured: {missing['name']}", evidence=missing["text"])
    return {names.format(figure["name"]): figure["median"] for figure in section["figures"]}


@dataclass
class InTheLab:
    """The lab, started for the measurements if there is none, and ended after them."""

    setup: Setup
    lab: LiveLab | None = None
    name = "kvm in the lab"

    def prepare(self, deadline: Deadline) -> None:
        self.lab = self.setup.cleanup.enter_context(labs.at_hand(deadline))

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        assert self.lab is not None
        lab, answer = self.lab, Path(self.lab.runs) / "bench-lab.json"
        return {
            START: lab.boot_s,
            **_figures(IN_LAB, answer, lambda: labs.harness(lab, _words("kvm", answer))),
        }


@dataclass
class OnThisHost:
    setup: Setup
    name = "tcg-svm on this host"

    def prepare(self, deadline: Deadline) -> None:
        """What it needs, the measurement itself makes."""

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        answer = self.setup.scratch / "bench-direct.json"
        command = [sys.executable, "-c", "from harness.cli import main; main()", *_words("tcg-svm", answer)]
        return _figures(DIRECT, answer, lambda: process.run(command, deadline))
