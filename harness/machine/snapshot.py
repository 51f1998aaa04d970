"""A machine's state in a folder: QEMU's with the guest's memory, and beside it what QEMU does not know.

QEMU writes pages to fixed places of the file (mapped-ram): it does not grow with what the guest rewrites, and
pages are read back from where they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.deadline import Deadline
from harness.errors import HostFault, UsageError
from harness.machine.qmp import Qmp, QmpEvent

_STATE = "machine.state"
_META = "machine.json"

# `events` has QEMU report the progress of a migration.
_CAPABILITIES = ("mapped-ram", "events")


@dataclass(frozen=True)
class Snapshot:
    """What of a machine is not in QEMU's file. `made_for` says which machines can go on from it."""

    made_for: tuple[str, ...]
    boot: int
    platform: Mapping[str, Any] | None  # Platform.state()

    def write(self, folder: Path) -> None:
        data = {"made_for": self.made_for, "boot": self.boot, "platform": self.platform}
        (folder / _META).write_text(json.dumps(data, indent=1))

    @classmethod
    def read(cls, folder: Path, made_for: tuple[str, ...]) -> Snapshot:
        """Raises UsageError when `folder` has none, or one of a machine that is not `made_for`."""
        try:
            data = json.loads((folder / _META).read_text())
        except (OSError, ValueError) as error:
            raise UsageError(f"{folder} has no snapshot of a machine", found=str(error)) from error
        if tuple(data["made_for"]) != made_for:
            raise UsageError(
                "the snapshot is of another machine",
                expected="; ".join(data["made_for"]),
                found="; ".join(made_for),
                hint="restore it with the engine, QEMU and machine that it was saved with",
            )
        return cls(made_for, data["boot"], data["platform"])


def begin_save(qmp: Qmp, folder: Path, deadline: Deadline) -> None:
    """Has QEMU, whose vCPUs are stopped, begin to write its state into `folder`."""
    _prepare(qmp, deadline)
    qmp.execute("migrate", deadline, {"uri": _uri(folder)})


def begin_load(qmp: Qmp, folder: Path, deadline: Deadline) -> None:
    """Has a QEMU that was started with ARGUMENTS begin to read its state."""
    _prepare(qmp, deadline)
    qmp.execute("migrate-incoming", deadline, {"uri": _uri(folder)})


# Of a QEMU that is to load a state.
ARGUMENTS = ("-incoming", "defer")


def is_done(events: Sequence[QmpEvent]) -> bool:
    """Whether what was begun is done, by QMP's events since then. Raises HostFault when it failed."""
    statuses = [event.data["status"] for event in events if event.name == "MIGRATION"]
    if "failed" in statuses or "cancelled" in statuses:
        raise HostFault("QEMU could not write or read a machine's state", found=", ".join(statuses))
    return "completed" in statuses


def _prepare(qmp: Qmp, deadline: Deadline) -> None:
    on = [{"capability": name, "state": True} for name in _CAPABILITIES]
    qmp.execute("migrate-set-capabilities", deadline, {"capabilities": on})


def _uri(folder: Path) -> str:
    return f"file:{(folder / _STATE).absolute()}"
