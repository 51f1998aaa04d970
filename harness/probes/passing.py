"""Who passes a point: the filters of an ArmedPoint, evaluated on a CPU that stands still at it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from harness.errors import HostFault, NotExercised
from harness.probes.event import same_value
from harness.probes.fetch import Fetch, compile_fetch
from harness.probes.layout import GuestLayout, VirtualMemory
from harness.probes.points import ArmedPoint

_U64 = (1 << 64) - 1
_COMM = 16  # TASK_COMM_LEN
_ANCESTORS = 16  # an actor's shell has a handful of descendants below each other
_NO_RESCHED = 1 << 31  # PREEMPT_NEED_RESCHED is kept inverted (arch/x86/include/asm/preempt.h)


@dataclass(frozen=True)
class Task:
    """The task that runs on a CPU."""

    address: int  # of its task_struct
    comm: str
    pid: int  # the thread's

    @classmethod
    def current(cls, gs_base: int, memory: VirtualMemory, layout: GuestLayout) -> Self:
        """The task of a CPU that is in the kernel, so that `gs_base` is the kernel's. Raises HostFault."""
        address = memory.u64(gs_base + layout.current_task & _U64)
        comm = memory.read_virtual(address + layout.task_comm, _COMM) if address else None
        if not address or comm is None:
            raise HostFault("the task of a CPU cannot be read", found=f"GS base {gs_base:#x}")
        return cls(address, comm.partition(b"\0")[0].decode(errors="replace"), _pid(address, memory, layout))

    def descends_from(self, pid: int, memory: VirtualMemory, layout: GuestLayout) -> bool:
        """Whether it is the task with this number, or was begotten by it or by one of its children."""
        task = self.address
        for _ in range(_ANCESTORS):
            if _pid(task, memory, layout) == pid:
                return True
            parent = memory.u64(task + layout.task_real_parent)
            if not parent or parent == task:
                return False
            task = parent
        return False


def _pid(task: int, memory: VirtualMemory, layout: GuestLayout) -> int:
    raw = memory.read_virtual(task + layout.task_pid, 4)
    if raw is None:
        raise HostFault("a task's number cannot be read", found=f"task_struct at {task:#x}")
    return int(struct.unpack("<i", raw)[0])


def preempt_count(gs_base: int, memory: VirtualMemory, layout: GuestLayout) -> int:
    """The CPU's preempt_count without the bit that says whether to reschedule. Raises HostFault."""
    raw = memory.read_virtual(gs_base + layout.preempt_count & _U64, 4)
    if raw is None:
        raise HostFault("the preempt_count of a CPU cannot be read", found=f"GS base {gs_base:#x}")
    return int(struct.unpack("<I", raw)[0]) & ~_NO_RESCHED


@dataclass(frozen=True)
class Condition:
    """A fetch expression, and the value that it must have."""

    fetch: Fetch
    wanted: str | int

    @property
    def by_register(self) -> bool:
        """Whether it counts on the arguments being where the ABI puts them."""
        return not self.fetch.spec.startswith("m:")

    def holds(self, general: Mapping[str, int], memory: VirtualMemory) -> bool:
        """Whether it does now; not where the memory cannot be read."""
        raw = _fetched(self.fetch.spec, general, memory)
        return raw is not None and same_value(self.fetch.text(raw), self.wanted)


def conditions(point: ArmedPoint, address_of: Callable[[str], int | None]) -> tuple[Condition, ...]:
    """The conditions of a point; `address_of` knows the kernel's variables.

    Raises NotExercised for an expression that only the kernel's own tracer can evaluate.
    """
    found = []
    for expression, wanted in point.when:
        fetch = compile_fetch(expression, address_of)
        if fetch is None:
            raise NotExercised(
                f"point {point.name} cannot look at {expression}",
                expected="a register, a variable, or memory at an offset from a register",
            )
        found.append(Condition(fetch, wanted))
    return tuple(found)


def _fetched(spec: str, general: Mapping[str, int], memory: VirtualMemory) -> int | str | None:
    """The raw value for a spec of harness/probes/fetch.py: r:REG:SIZE, m:ADDRESS:SIZE, d:REG:OFFSET:SIZE."""
    kind, *where, size = spec.split(":")
    if kind == "r":
        return general[where[0]] & (1 << 8 * int(size)) - 1
    address = int(where[-1], 16) + (general[where[0]] if kind == "d" else 0) & _U64
    if size.endswith("s"):
        return memory.string(address)
    raw = memory.read_virtual(address, int(size))
    return None if raw is None else int.from_bytes(raw, "little")
