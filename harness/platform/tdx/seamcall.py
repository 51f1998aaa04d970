"""One SEAMCALL: what goes in, what comes out, and the memory the module reaches.

The registers are those of the SEAMCALL ABI that Linux uses (arch/x86/virt/vmx/tdx/tdxcall.S): RAX is the leaf going
in and the completion status coming out, RCX, RDX and R8-R11 are operands both ways. R12-R15 belong to leaves that
work on TDs, which the model does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

U64 = (1 << 64) - 1


@dataclass(frozen=True)
class Registers:
    """Unsigned 64-bit values."""

    rax: int = 0
    rcx: int = 0
    rdx: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0


@dataclass(frozen=True)
class Done:
    """The module ran and came back with SEAMRET: CF clear, RAX the completion status."""

    registers: Registers


@dataclass(frozen=True)
class VmFailInvalid:
    """SEAMCALL set CF: there is no module, or not for this logical processor (Linux: -ENODEV)."""


@dataclass(frozen=True)
class Fault:
    """SEAMCALL raised an exception before any module ran."""

    vector: Literal["ud", "gp"]


Completion: TypeAlias = Done | VmFailInvalid | Fault


class Memory(Protocol):
    """Guest-physical memory, as long as a SEAMCALL is being answered."""

    def read(self, pa: int, length: int) -> bytes | None:
        """`length` bytes at the physical address, or None where there is no RAM."""

    def write(self, pa: int, data: bytes) -> bool:
        """Whether all of `data` could be written."""
