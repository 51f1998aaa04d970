"""The instruction before the instruction pointer, and what it wrote."""

from __future__ import annotations

import pytest

from harness.observe.port_write import PortWrite

OUT_0X64, OUT_DX = b"\xe6\x64", b"\x90\xee"


@pytest.mark.parametrize(
    ("code", "rax", "rdx", "resets"),
    [
        (OUT_0X64, 0xFFFFFFFE, 0, True),  # 6.12's native_machine_emergency_restart(), as it was at its reset
        (OUT_0X64, 0xAE, 0, False),  # another command for the keyboard controller
        (b"\xe6\x80", 0xFE, 0x64, False),  # another port
        (OUT_DX, 0x06, 0xCF9, True),
        (OUT_DX, 0x02, 0xCF9, False),  # the first half of a reset by 0xcf9
        (OUT_DX, 0xFE, 0xFFFF0064, True),  # only DX counts
    ],
)
def test_some_writes_reset_the_machine(code: bytes, rax: int, rdx: int, resets: bool) -> None:
    write = PortWrite.before(code, rax, rdx)
    assert write is not None
    assert write.resets is resets


def test_other_instructions_write_nothing() -> None:
    assert PortWrite.before(b"\x00\xcc", 0xFE, 0x64) is None  # INT3, with which reboot=triple ends
    assert PortWrite.before(b"\xe4\x64", 0xFE, 0x64) is None  # IN
