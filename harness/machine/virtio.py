"""The guest's virtio devices, as QEMU knows them."""

from __future__ import annotations

from harness.deadline import Deadline
from harness.machine.qmp import Qmp

_DRIVER_OK = "VIRTIO_CONFIG_S_DRIVER_OK"  # virtio 1.2, 2.1; gone when the driver resets its device


def in_use(qmp: Qmp, name: str, deadline: Deadline) -> bool:
    """Whether a driver of the guest has a device of the kind `name`, such as virtio-net."""
    return any(
        device["name"] == name
        and any(
            status.startswith(_DRIVER_OK)
            for status in qmp.execute("x-query-virtio-status", deadline, {"path": device["path"]})["status"][
                "statuses"
            ]
        )
        for device in qmp.execute("x-query-virtio", deadline)
    )
