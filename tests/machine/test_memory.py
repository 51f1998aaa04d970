"""The memory of a real guest's kernel, by virtual address."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.machine import toolchain
from harness.machine.argv import MachineSpec
from harness.machine.memory import Memory, NotInKernel, NotMapped, _in_kernel
from harness.machine.registers import CpuRegisters
from harness.probes.kallsyms import symbol_table
from tests import guests
from tests.guests import deadline


def cpu(number: int, rip: int, cr0: int = 0x80050033) -> CpuRegisters:
    return CpuRegisters(number, rip, cr0, 0, 0, 0, False, 0, 0)


def test_a_vcpu_in_the_kernel_is_asked() -> None:
    user, real_mode, kernel = cpu(0, 0x401000), cpu(1, 0xFFF0, cr0=0x10), cpu(2, 0xFFFFFFFF81000000)
    assert _in_kernel((user, real_mode, kernel)) == 2
    with pytest.raises(NotInKernel, match="CPU 0 at 0x401000, CPU 1 at 0xfff0"):
        _in_kernel((user, real_mode))


@pytest.mark.boot
def test_the_kernels_variables_are_read_and_holes_are_told(tmp_path: Path) -> None:
    banner = symbol_table(guests.kernel(), toolchain.find(deadline(600, "QEMU"))).variable("linux_banner")
    assert banner is not None
    guest = guests.make(tmp_path, MachineSpec(cpus=2))
    with guest.machine as machine:
        machine.start(deadline())
        machine.wait_ready(deadline())
        machine.pause(deadline())
        memory = Memory(machine, deadline())
        assert memory.string(banner).startswith("Linux version 6.12.")
        assert memory.read(banner + 6, 7) == b"version"
        assert memory.u64(banner) == int.from_bytes(b"Linux ve", "little")
        assert memory.read_virtual(0xFFFF000000000000, 8) is None
        with pytest.raises(NotMapped, match="0xffff000000000000"):
            memory.read(0xFFFF000000000000, 8)
