"""The guest's memory as a CPU in the kernel sees it, whoever reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod

_STRING = 64  # bytes that a string is read in; divides a page


class MemoryReader(ABC):
    """Reads at virtual addresses; None where nothing is mapped."""

    @abstractmethod
    def read_virtual(self, va: int, length: int) -> bytes | None:
        """`length` bytes."""

    def string(self, va: int) -> str | None:
        """The C string at `va`."""
        raw = b""
        while b"\0" not in raw:
            # Never across the end of a page: the next one may not be mapped.
            part = self.read_virtual(va + len(raw), _STRING - (va + len(raw)) % _STRING)
            if part is None:
                return None
            raw += part
        return raw.partition(b"\0")[0].decode(errors="replace")

    def u64(self, va: int) -> int | None:
        """The 64-bit number at `va`."""
        raw = self.read_virtual(va, 8)
        return None if raw is None else int.from_bytes(raw, "little")
