"""vCPU hot-plug as QEMU reports it: free places, and what the guest's ACPI answered."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

from harness.machine.qmp import QmpEvent


class Source(enum.IntEnum):
    """What an ACPI _OST call is about (ACPI 6.5, table 6.24, source event codes)."""

    INSERTION = 1
    EJECTION = 3


_SUCCESS = 0
_UNDERWAY = 0x84  # ejection pending; the outcome follows


def free_place(places: Sequence[Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]] | None:
    """A device name and the first empty entry of `query-hotpluggable-cpus`; None when all are taken.

    QEMU lists the places from the last to the first; the name carries the place's number counted from the first.
    """
    for number, place in enumerate(reversed(places)):
        if "qom-path" not in place:
            return f"cpu{number}", place
    return None


def refusal(events: Sequence[QmpEvent], device: str, source: Source) -> str:
    """Why the guest refused the request `source` for `device`; empty while it has not."""
    for event in events:
        if event.name == "DEVICE_UNPLUG_GUEST_ERROR" and event.data.get("device") == device:
            return "DEVICE_UNPLUG_GUEST_ERROR"
        status = _status(event, device, source)
        if status not in (None, _SUCCESS, _UNDERWAY):
            return f"ACPI _OST status {status:#x}"
    return ""


def taken(events: Sequence[QmpEvent], device: str) -> bool:
    """Whether the guest has taken `device` in."""
    return any(_status(event, device, Source.INSERTION) == _SUCCESS for event in events)


def given_back(events: Sequence[QmpEvent], device: str) -> bool:
    """Whether `device` is gone. QEMU 11.1 reports that of a CPU's local APIC, and not of the CPU itself."""
    path = f"/machine/peripheral/{device}/lapic"
    return any(event.name == "DEVICE_DELETED" and event.data["path"] == path for event in events)


def _status(event: QmpEvent, device: str, source: Source) -> int | None:
    info = event.data.get("info", {}) if event.name == "ACPI_DEVICE_OST" else {}
    if info.get("device") != device or info.get("source") != source:
        return None
    status: int = info["status"]
    return status
