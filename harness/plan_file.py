"""What a command that can be resumed was told, kept as plan.json in the folder that it works in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from harness.errors import UsageError

PLAN = "plan.json"
_FORMAT = 1


@dataclass(frozen=True)
class PlanFile:
    """A plan: a frozen dataclass of texts, numbers and tuples of them. `work` names in messages what is planned."""

    work: ClassVar[str]

    def save(self, folder: Path) -> None:
        (folder / PLAN).write_text(json.dumps({"format": _FORMAT, **asdict(self)}, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises UsageError when `folder` has no plan of this kind."""
        path = folder / PLAN
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            if data.pop("format", None) != _FORMAT:
                raise UsageError(f"{path} was written by another version of the harness")
            return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})
        except (OSError, ValueError) as error:
            raise UsageError(f"{folder} is not the folder of {cls.work}: {error}") from error
        except (TypeError, AttributeError) as error:
            raise UsageError(f"{path} is not the plan of {cls.work}: {error}") from error
