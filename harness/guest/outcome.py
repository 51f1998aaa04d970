"""What became of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.scenario.kinds import AWAY, HUNG, UNFINISHED

__all__ = ["AWAY", "FAILED", "HUNG", "OK", "UNFINISHED", "Outcome"]

OK = "OK"
FAILED = "FAILED"  # a command's exit status that is no errno

STEPS_LOG = "steps.jsonl"  # in a run's folder: an outcome per line


@dataclass(frozen=True)
class Outcome:
    """How a step or an actor ended.

    `result` is OK, an errno name, FAILED, HUNG or UNFINISHED (not done when its
    boot or the run ended). `online` are the CPUs online when it began,
    `detail` is one line for a person (which module, which ioctl), `console` what the console said meanwhile,
    `stacks` where the tasks of an actor hang that is HUNG.
    """

    id: str
    kind: str
    boot: int
    result: str
    seconds: float
    online: tuple[int, ...]
    detail: str = ""
    console: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The outcome as one line of steps.jsonl."""
        data = asdict(self)
        return data if self.stacks else {key: value for key, value in data.items() if key != "stacks"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_json`."""
        lists = {key: tuple(data.get(key, ())) for key in ("online", "console", "stacks")}
        return cls(**{**data, **lists})
