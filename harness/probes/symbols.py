"""Which module a function lives in, read from the modules' symbol tables on the host, before anything boots."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterable, Mapping

from elftools.elf.elffile import ELFFile

from harness.images.modules import Module, module_tree
from harness.kernels.model import Kernel
from harness.probes.addresses import base_name

_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym: name, info, other, shndx, value, size
_STT_FUNC = 2


def modules_of(functions: Iterable[str], kernel: Kernel, modules: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """For each of `functions` those of `modules` that have it, or a copy of it; functions of none are left out."""
    wanted = set(functions)
    tree = module_tree(kernel)
    found: dict[str, tuple[str, ...]] = {}
    for name in modules:
        if not tree.has(name) or tree.is_builtin(name):
            continue
        for module in tree.resolve([name]):
            if module.name == name:
                for function in wanted & _functions_in(module):
                    found[function] = (*found.get(function, ()), name)
    return found


@functools.lru_cache(maxsize=64)
def _functions_in(module: Module) -> frozenset[str]:
    names = function_names(module.read())
    return frozenset((*names, *map(base_name, names)))


def function_names(module: bytes) -> set[str]:
    """The names of the functions that an ELF object defines.

    pyelftools finds the tables; going through 10,000 symbols of kvm.ko with it would take a second.
    """
    elf = ELFFile(io.BytesIO(module))
    symbols = elf.get_section_by_name(".symtab")
    if symbols is None:
        return set()
    strings = elf.get_section(symbols["sh_link"]).data()
    names = set()
    for name, info, _, section, _, _ in _SYMBOL.iter_unpack(symbols.data()):
        if info & 0xF == _STT_FUNC and section:
            names.add(strings[name : strings.index(b"\0", name)].decode())
    return names
