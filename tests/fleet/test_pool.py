"""Which engine a name of a matrix means on this host."""

from __future__ import annotations

import pytest

from harness.errors import HostFault
from harness.fleet.pool import LocalPool
from harness.machine import kvm
from harness.machine.auto import Tools
from harness.machine.kvm import Obstacle
from harness.machine.toolchain import Qemu
from harness.scenario.machine import MachineSection


def test_a_named_engine_that_does_not_work_fails_in_its_cells_and_not_the_night(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kvm, "look", lambda *_: Obstacle("busy", "a VM", "EBUSY", "unload it"))
    assert LocalPool(1).choose("kvm", MachineSection()).name == "kvm"
    with pytest.raises(HostFault, match="does not work on this host"):  # what run_cell() asks for
        Tools("kvm", Qemu(("/nonexistent/qemu",), "11.1.3", "a test")).engine(MachineSection())
