"""Where a kernel keeps what is read out of its memory from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from harness.errors import HostFault
from harness.kernels.btf import offsets
from harness.kernels.model import Kernel
from harness.probes.addresses import SymbolTable


class VirtualMemory(Protocol):
    """The guest's memory as a CPU in the kernel sees it; None where nothing is mapped."""

    def read_virtual(self, va: int, length: int) -> bytes | None: ...

    def string(self, va: int) -> str | None:
        """The C string at `va`."""

    def u64(self, va: int) -> int | None: ...


@dataclass(frozen=True)
class GuestLayout:
    """Addresses in the per-CPU area (beginning at the kernel's GS base), then offsets in structures; all in bytes."""

    current_task: int
    preempt_count: int
    task_cpu: int  # of struct thread_info, with which a task begins
    task_comm: int
    task_pid: int
    task_real_parent: int
    module_name: int
    module_kallsyms: int
    module_list: int
    symtab: int  # of struct mod_kallsyms, like the next two
    num_symtab: int
    strtab: int

    @classmethod
    def of(cls, kernel: Kernel, symbols: SymbolTable) -> Self:
        """Raises HostFault for a kernel without BTF."""
        structs: dict[str, tuple[str, ...]] = {
            "thread_info": ("cpu",),
            "task_struct": ("comm", "pid", "real_parent"),
            "module": ("name", "kallsyms", "list"),
            "mod_kallsyms": ("symtab", "num_symtab", "strtab"),
        }
        current, preempt = symbols.variable("current_task"), symbols.variable("__preempt_count")
        if current is None or preempt is None:  # between 6.2 and 6.14: fields of the CPU's hottest cache line
            structs["pcpu_hot"] = ("current_task", "preempt_count")
        found = offsets(kernel, structs)
        if current is None or preempt is None:
            hot = required(symbols, "pcpu_hot")
            current, preempt = (hot + found["pcpu_hot"][name] for name in structs["pcpu_hot"])
        order = ("thread_info", "task_struct", "module", "mod_kallsyms")
        return cls(current, preempt, *(found[name][member] for name in order for member in structs[name]))


def required(symbols: SymbolTable, name: str) -> int:
    """The address of a variable or function that every kernel for this harness has. Raises HostFault."""
    address = symbols.variable(name)
    if address is None:
        raise HostFault(
            f"the kernel has no symbol {name}",
            hint="functions seen from outside the guest need CONFIG_KALLSYMS_ALL and CONFIG_TRACING",
        )
    return address
