"""A kernel's symbols as an ELF file for gdb, which takes no System.map: Debian's kernels come without a vmlinux.

gdb knows functions and variables by it, no types, no lines, no frames.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cache import disk_full_is_a_host_fault
from harness.errors import HostFault
from harness.paths import cache_dir
from harness.probes.addresses import SymbolTable

_FORMAT = b"2"  # of the files in the cache

# System V ABI, chapter 4, and its supplement for x86-64.
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_EXEC, _X86_64 = 2, 62
_NULL, _SYMTAB, _STRTAB, _NOBITS = 0, 2, 3, 8
_WRITE, _ALLOC, _CODE = 1, 2, 4
_ABSOLUTE = 0xFFF1
_GLOBAL = 1 << 4
_OBJECT, _FUNC = 1, 2

_TEXT, _DATA, _SYMBOLS, _STRINGS, _NAMES = range(1, 6)  # the sections
_SECTION_NAMES = b"\0.text\0.data\0.symtab\0.strtab\0.shstrtab\0"


@dataclass(frozen=True)
class _Range:
    begin: int
    end: int

    def has(self, address: int) -> bool:
        return self.begin <= address < self.end


def symbol_file(symbols: SymbolTable) -> Path:
    """The ELF file of `symbols`, in the cache. Raises HostFault for a table that is no kernel's."""
    digest = hashlib.sha256(_FORMAT + symbols.text.encode()).hexdigest()[:32]
    path = cache_dir() / "symbols" / f"{digest}.elf"
    if not path.exists():
        with disk_full_is_a_host_fault(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            stage = path.with_suffix(".new")
            stage.write_bytes(elf(symbols))
            stage.rename(path)
    return path


def elf(symbols: SymbolTable) -> bytes:
    """An ELF executable that consists of names: its sections have addresses and no contents."""
    text, data = _ranges(symbols)
    entries, names = bytearray(_SYMBOL.pack(0, 0, 0, 0, 0, 0)), bytearray(b"\0")
    table = sorted(_lines(symbols))
    ends = [address for address, _, _ in table[1:]] + [data.end]
    for (address, kind, name), end in zip(table, ends, strict=True):
        section = _TEXT if text.has(address) else _DATA if data.has(address) else _ABSOLUTE
        info = _GLOBAL | (_FUNC if kind in "tTwW" else _OBJECT)
        size = end - address if section != _ABSOLUTE else 0
        entries += _SYMBOL.pack(len(names), info, 0, section, address, size)
        names += name.encode() + b"\0"
    return _file(text, data, (bytes(entries), bytes(names), _SECTION_NAMES))


def _lines(symbols: SymbolTable) -> list[tuple[int, str, str]]:
    words = (line.split() for line in symbols.text.splitlines())
    return [(int(word[0], 16), word[1], word[2]) for word in words if len(word) == 3]


def _ranges(symbols: SymbolTable) -> tuple[_Range, _Range]:
    """Where the kernel's code is, and the rest of it."""
    begin, middle, end = (symbols.variable(name) for name in ("_text", "_etext", "_end"))
    if begin is None or middle is None or end is None:
        raise HostFault("the kernel does not tell where it begins and ends", expected="symbols _text, _etext, _end")
    return _Range(begin, middle), _Range(middle, end)


def _file(text: _Range, data: _Range, contents: Sequence[bytes]) -> bytes:
    offsets, at = [], _HEADER.size
    for content in contents:
        offsets.append(at)
        at += len(content)
    name = {section: _SECTION_NAMES.index(b"." + word) for section, word in _WORDS.items()}
    sections = [
        _SECTION.pack(*[_NULL] * 10),
        *(
            _SECTION.pack(name[number], _NOBITS, flags, part.begin, 0, part.end - part.begin, 0, 0, 4096, 0)
            for number, flags, part in ((_TEXT, _ALLOC | _CODE, text), (_DATA, _ALLOC | _WRITE, data))
        ),
        # All symbols but the first are global.
        _SECTION.pack(name[_SYMBOLS], _SYMTAB, 0, 0, offsets[0], len(contents[0]), _STRINGS, 1, 8, _SYMBOL.size),
        _SECTION.pack(name[_STRINGS], _STRTAB, 0, 0, offsets[1], len(contents[1]), 0, 0, 1, 0),
        _SECTION.pack(name[_NAMES], _STRTAB, 0, 0, offsets[2], len(contents[2]), 0, 0, 1, 0),
    ]
    header = _HEADER.pack(
        _IDENT, _EXEC, _X86_64, 1, text.begin, 0, at, 0, _HEADER.size, 0, 0, _SECTION.size, len(sections), _NAMES
    )
    return b"".join((header, *contents, *sections))


_WORDS = {_TEXT: b"text", _DATA: b"data", _SYMBOLS: b"symtab", _STRINGS: b"strtab", _NAMES: b"shstrtab"}
