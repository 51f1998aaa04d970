"""The guest's virtio devices, as their registers tell.

Not by QEMU's own x-query-virtio-status: 11.1 dies of it, for want of a vhost device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from harness.deadline import Deadline
from harness.machine.qmp import Qmp

# virtio 1.2: vendor and device (5.1, 4.1.2.1: transitional, modern), the device status (2.1, 4.1.4.3).
_NETWORK = {(0x1AF4, 0x1000), (0x1AF4, 0x1041)}
_DRIVER_OK = 0x04  # gone when the driver resets its device
_COMMON_BAR, _STATUS = 4, 0x14  # where QEMU's hw/virtio/virtio-pci.c puts the common configuration

_BYTE = re.compile(r": 0x([0-9a-f]{2})")


def network_in_use(qmp: Qmp, deadline: Deadline) -> bool:
    """Whether a driver of the guest has the network device."""
    for device in _devices(qmp.execute("query-pci", deadline)):
        bars = [region["address"] for region in device["regions"] if region["bar"] == _COMMON_BAR]
        if (device["id"]["vendor"], device["id"]["device"]) in _NETWORK and bars:
            match = _BYTE.search(qmp.human(f"xp /1bx {bars[0] + _STATUS:#x}", deadline))
            return match is not None and bool(int(match[1], 16) & _DRIVER_OK)
    return False


def _devices(buses: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (device for bus in buses for device in bus["devices"])
