"""The guest kernel's memory, read from outside: of a machine that stands at its reset, nobody else can tell.

QMP memsave translates by the page tables of one vCPU. In kernel mode those map all of the kernel (in user mode they
may not: page-table isolation), so a vCPU is taken that is there; its CR3 outlives the reset that it asked for.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HostFault
from harness.machine.machine import Machine
from harness.machine.qmp import QmpRefused
from harness.machine.registers import CpuRegisters

_PAGE = 4096
_PAGING = 1 << 31  # CR0.PG
_KERNEL_HALF = 1 << 63


class NotInKernel(HostFault):
    """No vCPU has the kernel's page tables: each is in user space, in the firmware, or waits for its start."""


class NotMapped(HostFault):
    """Nothing is mapped at an address that a structure of the kernel points to."""


class Memory:
    """Reads by virtual address; each page is fetched once, so the guest must stand still.

    Raises NotInKernel, on creation, when no vCPU has the kernel mapped; each read NotMapped. Both QmpLost and
    DeadlineExceeded.
    """

    def __init__(self, machine: Machine, deadline: Deadline) -> None:
        self._qmp = machine.qmp
        self._deadline = deadline
        self._cpu = _in_kernel(machine.registers(deadline))
        self._pages: dict[int, bytes] = {}

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address` on."""
        first, end = address // _PAGE, (address + size - 1) // _PAGE + 1
        if any(page not in self._pages for page in range(first, end)):
            fetched = self._fetch(first * _PAGE, (end - first) * _PAGE)
            for index in range(end - first):
                self._pages[first + index] = fetched[index * _PAGE : (index + 1) * _PAGE]
        joined = b"".join(self._pages[page] for page in range(first, end))
        return joined[address % _PAGE : address % _PAGE + size]

    def read_virtual(self, va: int, length: int) -> bytes | None:
        """The same; None where nothing is mapped."""
        try:
            return self.read(va, length) if length else b""
        except NotMapped:
            return None

    def string(self, va: int) -> str:
        """The C string at `va`, of a page's length at most."""
        text = self.read(va, _PAGE - va % _PAGE)
        if b"\0" not in text:
            text += self.read(va + len(text), _PAGE)
        return text.partition(b"\0")[0].decode(errors="replace")

    def u32(self, address: int) -> int:
        (value,) = struct.unpack("<I", self.read(address, 4))
        return int(value)

    def u64(self, address: int) -> int:
        """An unsigned long, or a pointer."""
        (value,) = struct.unpack("<Q", self.read(address, 8))
        return int(value)

    def _fetch(self, address: int, size: int) -> bytes:
        with tempfile.TemporaryDirectory(prefix="memory-") as folder:
            path = Path(folder) / "pages"
            where = {"val": address, "size": size, "filename": str(path), "cpu-index": self._cpu}
            try:
                self._qmp.execute("memsave", self._deadline, where)
            except QmpRefused as refusal:
                raise NotMapped(f"there is no guest memory at {address:#x}", found=str(refusal)) from refusal
            return path.read_bytes()


def _in_kernel(cpus: tuple[CpuRegisters, ...]) -> int:
    for cpu in cpus:
        if cpu.cr0 & _PAGING and cpu.rip & _KERNEL_HALF:
            return cpu.cpu
    raise NotInKernel(
        "the guest kernel's memory cannot be read",
        expected="a vCPU in kernel mode",
        found=", ".join(f"CPU {cpu.cpu} at {cpu.rip:#x}" for cpu in cpus),
    )
