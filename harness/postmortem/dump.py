"""A dump of a guest's memory as a drgn program.

The guest tells QEMU nothing about itself (it has no vmcoreinfo device), so the dump lacks the note by which drgn
knows a kernel. The kernel keeps that text in its memory anyway, for kdump (kernel/vmcore_info.c), and with nokaslr it
is at a known place.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from drgn import FindObjectFlags, Object, Program, ProgramFlags, Symbol, SymbolBinding, SymbolKind, Type
from drgn.helpers.linux.list import list_for_each_entry
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from harness.errors import UsageError
from harness.kernels import store
from harness.kernels.btf import kernel_btf
from harness.kernels.model import Kernel
from harness.postmortem.btf_types import BtfTypes
from harness.probes.addresses import SymbolTable

_KERNEL_MAP = 0xFFFFFFFF80000000  # Documentation/arch/x86/x86_64/mm.rst; to it, physical 0 is mapped
_VMCOREINFO_MAX = 1 << 16

# QEMU's own note, target/i386/arch_dump.c: QEMUCPUState of x86-64.
_QEMU_NOTE = "QEMU"
_CR4 = 8 + 18 * 8 + 10 * 24 + 4 * 8

# Variables that drgn's helpers ask for. BTF has the types of per-CPU variables only.
_VARIABLES = {
    "__cpu_online_mask": "struct cpumask",
    "__cpu_possible_mask": "struct cpumask",
    "__cpu_present_mask": "struct cpumask",
    "init_pid_ns": "struct pid_namespace",
    "init_task": "struct task_struct",
    "modules": "struct list_head",
    "nr_cpu_ids": "unsigned int",
    "page_offset_base": "unsigned long",
    "vmemmap_base": "unsigned long",
}
_PER_CPU_OFFSET = "__per_cpu_offset"


@dataclass(frozen=True)
class Dump:
    """The parts of the file that are needed before drgn is. `parts` are physical address, size and place in it."""

    path: Path
    parts: tuple[tuple[int, int, int], ...]
    cr4: tuple[int, ...]  # of each vCPU, as QEMU's note has it

    @classmethod
    def read(cls, path: Path) -> Dump:
        """Raises UsageError for a file that is no dump of QEMU's."""
        try:
            with path.open("rb") as file:
                elf = ELFFile(file)
                segments = list(elf.iter_segments())
                parts = [(s["p_paddr"], s["p_filesz"], s["p_offset"]) for s in segments if s["p_type"] == "PT_LOAD"]
                notes = [note for s in segments if isinstance(s, NoteSegment) for note in s.iter_notes()]
        except (OSError, ELFError) as error:
            raise UsageError(
                f"{path} is no dump of a guest's memory: {error}", hint="harness attach RUN --dump FILE"
            ) from error
        states = [note["n_desc"] for note in notes if note["n_name"] == _QEMU_NOTE]
        return cls(path, tuple(parts), tuple(_cr4(state) for state in states))

    def physical(self, address: int, size: int) -> bytes:
        """Raises UsageError for memory that the dump does not have."""
        for begin, length, offset in self.parts:
            if begin <= address and address + size <= begin + length:
                with self.path.open("rb") as file:
                    file.seek(offset + address - begin)
                    return file.read(size)
        raise UsageError(f"{self.path} has no memory at {address:#x}: is it a dump of this kernel?")


def _cr4(state: bytes | str) -> int:
    # pyelftools gives the bytes of a note that it does not know as text.
    raw = state.encode("latin-1") if isinstance(state, str) else state
    return int(struct.unpack_from("<Q", raw, _CR4)[0])


def kernel_of_run(folder: Path) -> Kernel:
    """The kernel of a run, from the cache. Raises UsageError when it is not there any more."""
    try:
        about = json.loads((folder / "run.json").read_text())["kernel"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{folder} is not the folder of a run", found=str(error)) from error
    entry = store.load(about["key"]) or next(_of_release(about["release"]), None)
    if entry is None:
        raise UsageError(f"kernel {about['label']} is not in the cache any more", hint="harness kernels fetch")
    return entry.kernel(about["spec"], store.load(entry.parts.base) if entry.parts.base else None)


def _of_release(release: str) -> Iterator[store.Entry]:
    """Entries of the same kernel: one to which a module was added for a run has a key of its own."""
    for entry in store.entries():
        if isinstance(entry, store.Entry) and entry.parts.release == release and not entry.parts.base:
            yield entry


def open_dump(path: Path, kernel: Kernel, symbols: SymbolTable) -> Program:
    """The dump as a drgn program, with the types that the kernel's BTF has and the addresses of its symbols.

    Raises UsageError for a dump of something else.
    """
    dump = Dump.read(path)
    prog = Program(vmcoreinfo=_vmcoreinfo(dump, symbols))
    prog.set_core_dump(str(path))
    assert prog.flags & ProgramFlags.IS_LINUX_KERNEL
    types = BtfTypes(prog, kernel_btf(kernel))
    names = _Names(types, symbols, len(dump.cr4))
    prog.register_type_finder("btf", types.find, enable_index=0)
    prog.register_object_finder("symbols", names.object, enable_index=0)
    prog.register_symbol_finder("symbols", names.symbol, enable_index=0)
    return prog


def _vmcoreinfo(dump: Dump, symbols: SymbolTable) -> bytes:
    """The text that describes the kernel, out of its memory. Raises UsageError when it is not there."""
    base, begin, size = (
        _word(dump, symbols, name) for name in ("page_offset_base", "vmcoreinfo_data", "vmcoreinfo_size")
    )
    text = dump.physical(begin - base, size) if 0 < size < _VMCOREINFO_MAX and begin > base else b""
    if not text.startswith(b"OSRELEASE="):
        raise UsageError(f"{dump.path} is not of this kernel", expected="OSRELEASE=… at its vmcoreinfo_data")
    return text


def _word(dump: Dump, symbols: SymbolTable, name: str) -> int:
    address = symbols.variable(name)
    if address is None:
        raise UsageError(
            f"the kernel has no {name}", hint="it is built without CONFIG_CRASH_DUMP or CONFIG_VMCORE_INFO"
        )
    return int(struct.unpack("<Q", dump.physical(address - _KERNEL_MAP, 8))[0])


@dataclass(frozen=True)
class _Names:
    """What drgn is told when it asks for a name."""

    types: BtfTypes
    symbols: SymbolTable
    cpus: int

    def object(self, prog: Program, name: str, flags: FindObjectFlags, filename: str | None) -> Object | None:
        """A variable or an enumerator."""
        if flags & FindObjectFlags.CONSTANT and name in self.types.constants:
            type_id, value = self.types.constants[name]
            return Object(prog, self.types.type(type_id), value=value)
        address = self.symbols.variable(name) if flags & FindObjectFlags.VARIABLE else None
        kind = self._type(prog, name) if address is not None else None
        return Object(prog, kind, address=address) if kind is not None else None

    def _type(self, prog: Program, name: str) -> Type | None:
        if name == _PER_CPU_OFFSET:
            return prog.array_type(prog.type("unsigned long"), self.cpus)
        if name in self.types.variables:
            return self.types.type(self.types.variables[name])
        return prog.type(_VARIABLES[name]) if name in _VARIABLES else None

    def symbol(self, prog: Program, name: str | None, address: int | None, one: bool) -> list[Symbol]:
        found = self.symbols.variable(name) if name is not None else address
        known = name if name is not None else self.symbols.at(address) if address is not None else None
        if found is None or known is None:
            return []
        return [Symbol(known, found, 1, SymbolBinding.GLOBAL, SymbolKind.UNKNOWN)]


def module_symbols(prog: Program) -> Mapping[str, Mapping[str, int]]:
    """The addresses of the symbols of every module that is loaded: by module, then by name.

    Those of per-CPU variables are like the kernel's own: CPU n has its copy `__per_cpu_offset[n]` further, mod 2^64.
    """
    modules = prog["modules"].address_of_()
    return {
        module.name.string_().decode(): dict(_kallsyms(module))
        for module in list_for_each_entry("struct module", modules, "list")
    }


def _kallsyms(module: Object) -> Iterator[tuple[str, int]]:
    """kernel/module/kallsyms.c; the first symbol of an ELF table is nobody's."""
    table = module.kallsyms
    for index in range(1, int(table.num_symtab)):
        symbol = table.symtab[index]
        yield (table.strtab + symbol.st_name).string_().decode(), int(symbol.st_value)
