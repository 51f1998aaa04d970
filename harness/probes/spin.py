"""Where a task waits that is held: a loop of two instructions in kernel text that never runs.

A slot is used once. When its task is let go, the loop becomes a jump to where the task was to be; wherever in the
slot it was interrupted, it leaves by that.

    ENDBR64         the CPU may have come by an indirect call, and then insists on it (IBT)
    HLT or PAUSE    HLT where interrupts are on: they wake it, and the scheduler can take the CPU away
    JMP to that
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from harness.errors import HostFault
from harness.probes.addresses import SymbolTable

_ENDBR64 = bytes.fromhex("f30f1efa")
_HLT, _PAUSE = b"\xf4", b"\xf3\x90"
_NOP = b"\x90"
_JMP_SHORT, _JMP = b"\xeb", b"\xe9"

_SIZE = 16
_PROLOGUE = 16  # of the function: ENDBR64, and the five bytes that ftrace changes

# Where no machine checks are reported, and no reset is done by real-mode code (reboot=bios). The first is missing
# without CONFIG_X86_MCE; it is 1400 to 2600 bytes long, and out of bounds for ftrace and kprobes. The other has
# room for two or three tasks.
_NEVER_RUN = ("do_machine_check", "machine_real_restart")


@dataclass(frozen=True)
class Slot:
    """A place for one task. `interrupts`: whether the CPU takes them there."""

    address: int
    interrupts: bool

    @property
    def waiting(self) -> bytes:
        """The loop."""
        pause = _HLT if self.interrupts else _PAUSE
        return _ENDBR64 + pause + _JMP_SHORT + struct.pack("<b", -len(pause) - 2)

    def leaving(self, target: int) -> bytes:
        """The same bytes, and a few more, that lead to `target`: as instructions they begin where the loop's do."""
        nops = _NOP * len(_HLT if self.interrupts else _PAUSE)
        jump = self.address + len(_ENDBR64) + len(nops)
        return _ENDBR64 + nops + _JMP + struct.pack("<i", target - (jump + 5))


def slots(symbols: SymbolTable) -> tuple[int, ...]:
    """The addresses of the slots that a kernel has. Raises HostFault for a kernel without any."""
    begin = next(filter(None, map(symbols.variable, _NEVER_RUN)), None)
    if begin is None:
        raise HostFault(
            "the kernel has no place where a held task can wait",
            expected="a function that never runs: " + " or ".join(_NEVER_RUN),
        )
    first = -(-(begin + _PROLOGUE) // _SIZE) * _SIZE
    return tuple(range(first, begin + symbols.room(begin) - _SIZE + 1, _SIZE))
