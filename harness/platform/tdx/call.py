"""A call of one leaf, as its handler sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.platform.tdx.config import ModuleConfig
from harness.platform.tdx.layout import Layout
from harness.platform.tdx.metadata import Metadata
from harness.platform.tdx.seamcall import Memory, Registers
from harness.platform.tdx.state import State
from harness.platform.tdx.status import SUCCESS, Operand, refusal


@dataclass(frozen=True)
class Outcome:
    """The completion status, and the registers that the leaf sets besides RAX."""

    status: int = SUCCESS
    outputs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """Who calls, with which operands, on which module."""

    lp: int
    registers: Registers
    memory: Memory
    state: State
    config: ModuleConfig
    layout: Layout
    metadata: Metadata

    @property
    def package(self) -> int:
        return self.layout.packages[self.lp]

    def keyid_of(self, pa: int) -> int:
        """The KeyID bits of an address (get_hkid_from_pa, helpers.h)."""
        return pa % (1 << self.config.max_pa_bits) >> self.config.keyid_start_bit

    def without_keyid(self, pa: int) -> int:
        """The address proper (get_addr_from_pa, helpers.h)."""
        return pa - (self.keyid_of(pa) << self.config.keyid_start_bit)

    def addressable(self, pa: int) -> bool:
        """Whether an address has neither a KeyID nor bits above it."""
        return not pa >> self.config.keyid_start_bit

    def check_shared(self, pa: int, alignment: int, operand: Operand) -> None:
        """shared_hpa_check_with_pwr_2_alignment of helpers.c, but for SEAMRR, which no guest knows.

        Raises Refused unless the address is aligned, below the physical address width and of a shared KeyID.
        """
        below = pa < 1 << self.config.max_pa_bits
        if pa % alignment or not below or self.keyid_of(pa) > self.config.mktme_keyids:
            raise refusal("TDX_OPERAND_INVALID", operand)

    def read(self, pa: int, length: int) -> bytes:
        """Memory at an address that may have a KeyID. Where there is none, the bus answers with ones."""
        return self.memory.read(self.without_keyid(pa), length) or b"\xff" * length

    def write(self, pa: int, data: bytes) -> None:
        """Writes memory; where there is none, the bus drops it."""
        self.memory.write(self.without_keyid(pa), data)
