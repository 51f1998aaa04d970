"""A machine's state in a folder: QEMU's with the guest's memory, and beside it what QEMU does not know.

QEMU writes pages to fixed places of the file (mapped-ram): it does not grow with what the guest rewrites, and
pages are read back from where they are.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.deadline import Deadline
from harness.errors import HostFault, UsageError
from harness.machine.qmp import Qmp, QmpEvent
from harness.platform.link import EVENTS

CONSOLE = "console.log"  # in a machine's folder, written by QEMU

_STATE = "machine.state"
_META = "machine.json"

# What QEMU has written about the boot that goes on elsewhere.
_RECORDS = (CONSOLE, EVENTS)

# `events` has QEMU report the progress of a migration.
_CAPABILITIES = ("mapped-ram", "events")


class SnapshotBroken(HostFault):
    """A snapshot that is incomplete, damaged or gone: another boot makes another one."""


@dataclass(frozen=True)
class Snapshot:
    """What of a machine is not in QEMU's file. `made_for` says which machines can go on from it."""

    made_for: tuple[str, ...]
    boot: int
    console: int  # where the boot begins in the console's lines
    platform: Mapping[str, Any] | None  # Platform.state()
    size: int = 0  # of QEMU's file, in bytes

    def write(self, folder: Path, run: Path) -> None:
        """Completes the snapshot in `folder`, beside QEMU's file, with what is in the machine's own folder `run`."""
        for record in _RECORDS:
            if (run / record).exists():
                shutil.copyfile(run / record, folder / record)
        with (folder / _STATE).open("rb") as state:
            os.fsync(state.fileno())
            size = os.fstat(state.fileno()).st_size
        (folder / _META).write_text(json.dumps({**asdict(self), "size": size}, indent=1))

    @classmethod
    def read(cls, folder: Path, made_for: tuple[str, ...]) -> Snapshot:
        """Raises SnapshotBroken when `folder` has none that is whole, UsageError for one that is not `made_for`."""
        try:
            data = json.loads((folder / _META).read_text())
            saved = cls(**{**data, "made_for": tuple(data["made_for"])})
            size = (folder / _STATE).stat().st_size
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SnapshotBroken(f"{folder} has no snapshot of a machine", found=str(error)) from error
        if size != saved.size:
            raise SnapshotBroken(
                f"the snapshot in {folder} is damaged", expected=f"{saved.size} bytes", found=f"{size} bytes"
            )
        if saved.made_for != made_for:
            raise UsageError(
                "the snapshot is of another machine",
                expected="; ".join(saved.made_for),
                found="; ".join(made_for),
                hint="restore it with the engine, QEMU and machine that it was saved with",
            )
        return saved


def continue_records(folder: Path, run: Path) -> str:
    """Gives the machine's folder `run` what QEMU had written before the snapshot; returns what the console said.

    Raises SnapshotBroken when it is not there.
    """
    try:
        for record in _RECORDS:
            if record == CONSOLE or (folder / record).exists():
                shutil.copyfile(folder / record, run / record)
        return (run / CONSOLE).read_bytes().decode(errors="replace")
    except OSError as error:
        raise SnapshotBroken(f"the snapshot in {folder} is incomplete", found=str(error)) from error


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
