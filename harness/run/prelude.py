"""The first steps of a run, done once for many runs: the machine after them, and what the harness knew of it then.

Tasks that are held are held again: they stand at their points, which are armed before the machine goes on. So it
needs the emulated platform, whose points and probes are not in the guest. The kernel's own trace ends here, so that
what it alone would see afterwards is unseen; SSH connections too, so what comes of an actor is read on the console.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import HostFault

PRELUDE = "prelude.json"


@dataclass(frozen=True)
class Started:
    """An actor that is under way: its shell's process, the boot and CPUs online at its start, and where it began on
    the console."""

    name: str
    pid: int
    boot: int
    online: tuple[int, ...]
    console: int


@dataclass(frozen=True)
class Prelude:
    """What is known after so many steps. `modules` are the symbol tables of those that are loaded."""

    steps: int
    online: tuple[int, ...]
    armed: tuple[str, ...]
    preemption: str
    held: tuple[str, ...]
    actors: tuple[Started, ...]
    modules: Mapping[str, str]
    outcomes: str  # steps.jsonl so far
    trace: str  # the kernel's own, likewise

    def write(self, folder: Path) -> None:
        """Completes what `Machine.save` left in `folder`."""
        (folder / PRELUDE).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Prelude:
        """Raises HostFault when there is none."""
        try:
            data: dict[str, Any] = json.loads((folder / PRELUDE).read_text())
        except (OSError, ValueError) as error:
            raise HostFault(f"{folder} has no first steps of a run", found=str(error)) from error
        actors = tuple(Started(**{**actor, "online": tuple(actor["online"])}) for actor in data["actors"])
        lists = {name: tuple(data[name]) for name in ("online", "armed", "held")}
        return cls(**{**data, **lists, "actors": actors})
