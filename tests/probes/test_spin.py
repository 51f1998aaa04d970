"""The loop in which a held task waits, and the way out of it."""

from __future__ import annotations

import itertools
import struct

import pytest

from harness.errors import HostFault
from harness.probes.addresses import SymbolTable
from harness.probes.spin import Slot, slots

TARGET = 0xFFFFFFFF81234567


@pytest.mark.parametrize("interrupts", [True, False])
def test_the_loop_leads_to_its_own_pause(interrupts: bool) -> None:
    code = Slot(0xFFFFFFFF81000010, interrupts).waiting
    assert code.startswith(bytes.fromhex("f30f1efa"))  # where an indirect call may land
    assert code[4:-2] == (b"\xf4" if interrupts else b"\xf3\x90")
    (jump,) = struct.unpack("<b", code[-1:])
    assert code[-2] == 0xEB and len(code) + jump == 4


@pytest.mark.parametrize("interrupts", [True, False])
@pytest.mark.parametrize("address", [0xFFFFFFFF81000010, 0xFFFFFFFF82000000])
def test_the_way_out_leads_to_the_target_from_everywhere_in_the_loop(interrupts: bool, address: int) -> None:
    """An interrupt may have found the task at each of the loop's instructions: they must be instructions still."""
    slot = Slot(address, interrupts)
    waiting, leaving = slot.waiting, slot.leaving(TARGET)
    jump = len(waiting) - 2  # where the loop has its jump, the way out has its own
    assert leaving[:4] == waiting[:4] and leaving[4:jump] == b"\x90" * (jump - 4)
    (distance,) = struct.unpack_from("<i", leaving, jump + 1)
    assert leaving[jump] == 0xE9 and address + jump + 5 + distance == TARGET
    assert len(leaving) <= 16


def test_slots_lie_in_a_function_that_never_runs() -> None:
    table = SymbolTable([("do_machine_check", 0x10004, True), ("next", 0x10100, True), ("first", 0x100, True)])
    found = slots(table)
    assert found[0] == 0x10020 and found[-1] == 0x100F0  # behind the function's first 16 bytes
    assert [after - before for before, after in itertools.pairwise(found)] == [16] * (len(found) - 1)


def test_another_function_serves_without_machine_checks() -> None:
    table = SymbolTable([("machine_real_restart", 0x2000, True), ("next", 0x2042, True)])
    assert slots(table) == (0x2010, 0x2020, 0x2030)


def test_a_kernel_with_no_room_is_refused() -> None:
    with pytest.raises(HostFault, match="no place"):
        slots(SymbolTable([("start_kernel", 0x1000, True)]))
