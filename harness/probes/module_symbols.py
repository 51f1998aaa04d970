"""The functions of a loaded module, from its own symbol table, read out of the guest's memory.

Functions of a module have no address before it is loaded. do_init_module() is where a module is complete and nothing
of it has run yet. Later its init code is gone, and its symbol table lists the rest (kernel/module/kallsyms.c).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import HostFault
from harness.probes.layout import GuestLayout, VirtualMemory

MODULE_BEGINS = "do_init_module"  # kernel/module/main.c; struct module *mod

_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym: name, info, other, shndx, value, size
_STT_FUNC = 2

_MODULES_MAX = 4096  # a list that is longer does not end


@dataclass(frozen=True)
class ModuleFunction:
    """A function in a loaded module."""

    name: str
    address: int
    size: int

    def covers(self, address: int) -> bool:
        return self.address <= address < self.address + self.size


def module_name(memory: VirtualMemory, layout: GuestLayout, module: int) -> str:
    """The name of the struct module at `module`. Raises HostFault."""
    name = memory.string(module + layout.module_name)
    if not name:
        raise HostFault(f"the name of the module at {module:#x} cannot be read")
    return name


def find_module(memory: VirtualMemory, layout: GuestLayout, modules: int, name: str) -> int | None:
    """The struct module of a module that is loaded, or being loaded; `modules` is the address of the list's head."""
    entry = memory.u64(modules)
    for _ in range(_MODULES_MAX):
        if entry is None:
            break
        if entry == modules:
            return None
        if memory.string(entry - layout.module_list + layout.module_name) == name:
            return entry - layout.module_list
        entry = memory.u64(entry)
    raise HostFault("the kernel's list of modules cannot be read", found=f"its head at {modules:#x}")


def module_functions(memory: VirtualMemory, layout: GuestLayout, module: int, name: str) -> Iterator[ModuleFunction]:
    """The functions of the struct module at `module`: those of its init code among them until that has run."""
    kallsyms = memory.u64(module + layout.module_kallsyms)
    if not kallsyms:
        raise HostFault(f"module {name} has no symbols", hint="the kernel needs CONFIG_KALLSYMS")
    symtab, strtab = memory.u64(kallsyms + layout.symtab), memory.u64(kallsyms + layout.strtab)
    count = memory.read_virtual(kallsyms + layout.num_symtab, 4)
    table = memory.read_virtual(symtab, int.from_bytes(count, "little") * _SYMBOL.size) if symtab and count else None
    if table is None or not strtab:
        raise HostFault(f"the symbols of module {name} cannot be read")
    found = [row for row in _SYMBOL.iter_unpack(table) if row[1] & 0xF == _STT_FUNC and row[3]]
    last = max((row[0] for row in found), default=0)
    names = (memory.read_virtual(strtab, last) or b"") + (memory.string(strtab + last) or "").encode() + b"\0"
    for at, _, _, _, address, size in found:
        yield ModuleFunction(names[at : names.index(b"\0", at)].decode(), address, size)
