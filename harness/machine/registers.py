"""Control registers of every vCPU, read from outside the guest: `info registers -a` of QEMU's human monitor.

Works while the guest runs, sleeps in S3, or stands paused at its reset; the guest takes no part in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import HostFault

_CPU = re.compile(r"^CPU#(\d+)\s*$", re.MULTILINE)
_CONTROL = ("CR0", "CR3", "CR4", "EFER", "HLT")
# A CPU in 16 or 32 bit mode (before its kernel entry, after a reset) shows the name on the right.
_WIDTHS = {"RIP": "EIP", "RAX": "EAX", "RDX": "EDX"}
_FIELD = {name: re.compile(rf"\b{name}=([0-9a-f]+)") for name in (*_CONTROL, *_WIDTHS, *_WIDTHS.values())}


@dataclass(frozen=True)
class CpuRegisters:
    """What of one vCPU tells whether virtualization is on, where the CPU is, and what it has written to a port."""

    cpu: int  # QEMU's CPU index, the guest's CPU number on these machines
    rip: int
    cr0: int
    cr3: int
    cr4: int
    efer: int
    halted: bool  # in HLT, or waiting for its start-up IPI
    rax: int
    rdx: int


def parse(text: str) -> tuple[CpuRegisters, ...]:
    """The answer of `info registers -a`, one record per vCPU in QEMU's order.

    Raises HostFault when QEMU's format is not the one that is known.
    """
    parts = _CPU.split(text)[1:]
    records = tuple(_record(int(index), body) for index, body in zip(parts[::2], parts[1::2], strict=True))
    if not records:
        raise _unknown(text)
    return records


def _record(cpu: int, body: str) -> CpuRegisters:
    found = {name: int(match[1], 16) for name, pattern in _FIELD.items() if (match := pattern.search(body))}
    found |= {wide: found[narrow] for wide, narrow in _WIDTHS.items() if narrow in found}
    try:
        return CpuRegisters(
            cpu=cpu,
            rip=found["RIP"],
            cr0=found["CR0"],
            cr3=found["CR3"],
            cr4=found["CR4"],
            efer=found["EFER"],
            halted=bool(found["HLT"]),
            rax=found["RAX"],
            rdx=found["RDX"],
        )
    except KeyError as error:
        raise _unknown(body) from error


def _unknown(text: str) -> HostFault:
    return HostFault(
        "QEMU's `info registers -a` is not in the known format",
        expected="CPU#n, then RAX, RDX, RIP, CR0, CR3, CR4, EFER and HLT",
        evidence=text[:2000],
    )
