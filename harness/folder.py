"""A run's folder: everything about a run, written as it happens, so that it is complete whenever the run ends."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HostFault
from harness.paths import runs_dir


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; docs/results.md lists its files."""

    path: Path

    @classmethod
    def create(cls, scenario: str, kernel: str, engine: str) -> RunFolder:
        """Makes runs/<time>-<scenario>-<kernel>-<engine>, with a number behind it when that exists."""
        name = "-".join((time.strftime("%Y%m%dT%H%M%S"), scenario, re.sub(r"[^\w.+-]+", "-", kernel), engine))
        for number in range(1, 1000):
            path = runs_dir() / (name if number == 1 else f"{name}.{number}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise HostFault(
                    f"cannot make {path}: {error.strerror}", hint="set HARNESS_RUNS to a folder that you may write"
                ) from error
            return cls(path.absolute())
        raise HostFault(f"{runs_dir()} is full of runs named {name}")

    def write_text(self, name: str, text: str) -> None:
        """Writes a file whole."""
        (self.path / name).write_text(text)

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """Writes a JSON file whole: by rename, so that a reader never sees half of it."""
        temporary = self.path / f".{name}"
        temporary.write_text(json.dumps(data, indent=2, default=str) + "\n")
        temporary.rename(self.path / name)

    def append(self, name: str, data: Mapping[str, Any]) -> None:
        """Appends one line to a .jsonl file."""
        with (self.path / name).open("a") as file:
            file.write(json.dumps(data, default=str) + "\n")
