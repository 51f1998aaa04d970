"""What the guest's ACPI says about a vCPU; the events are those that QEMU 11.1 sent for Linux 6.12."""

from typing import Any

from harness.machine import hotplug
from harness.machine.hotplug import Source
from harness.machine.qmp import QmpEvent


def ost(device: str, source: int, status: int) -> QmpEvent:
    return QmpEvent(0, 0.0, "ACPI_DEVICE_OST", {"info": {"device": device, "source": source, "status": status}})


def deleted(path: str) -> QmpEvent:
    return QmpEvent(0, 0.0, "DEVICE_DELETED", {"path": path})


def place(socket: int, core: int, *, used: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"props": {"socket-id": socket, "core-id": core}, "type": "max-x86_64-cpu"}
    return {**entry, "qom-path": "/machine/x"} if used else entry


def test_the_first_free_place_gets_its_number() -> None:
    places = [place(1, 1, used=False), place(1, 0, used=False), place(0, 1, used=True), place(0, 0, used=True)]
    assert hotplug.free_place(places) == ("cpu2", places[1])


def test_no_free_place() -> None:
    assert hotplug.free_place([place(0, 0, used=True)]) is None


def test_taken_when_the_insertion_succeeded() -> None:
    assert hotplug.taken([ost("cpu2", 1, 0)], "cpu2")
    assert not hotplug.taken([ost("cpu2", 1, 1)], "cpu2")
    assert not hotplug.taken([ost("cpu3", 1, 0)], "cpu2")
    assert not hotplug.taken([ost("cpu2", 3, 0)], "cpu2")


def test_given_back_when_its_local_apic_is_gone() -> None:
    assert hotplug.given_back([deleted("/machine/peripheral/cpu2/lapic")], "cpu2")
    assert not hotplug.given_back([deleted("/machine/peripheral/cpu20/lapic")], "cpu2")


def test_an_ejection_that_is_underway_is_not_refused() -> None:
    assert hotplug.refusal([ost("cpu2", 3, 0x84)], "cpu2", Source.EJECTION) == ""


def test_an_ejection_that_failed_is_refused_with_its_status() -> None:
    assert "0x1" in hotplug.refusal([ost("cpu2", 3, 0x84), ost("cpu2", 3, 1)], "cpu2", Source.EJECTION)


def test_a_refused_insertion_is_not_a_refused_ejection() -> None:
    assert hotplug.refusal([ost("cpu2", 1, 1)], "cpu2", Source.EJECTION) == ""
