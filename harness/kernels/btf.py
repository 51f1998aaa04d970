"""Where the fields of a kernel's structures are, from the BTF that the kernel itself carries.

Format: Documentation/bpf/btf.rst. A kernel with CONFIG_DEBUG_INFO_BTF has it in the section .BTF of its vmlinux. That
is read at run time (/sys/kernel/btf/vmlinux) and therefore survives in the bzImage. All of Debian's kernels have it.
"""

from __future__ import annotations

import array
import functools
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from harness.compression import decompress
from harness.errors import HostFault
from harness.kernels.model import Kernel
from harness.kernels.vmlinux import extract_vmlinux

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")  # magic, version, flags, hdr_len, type_off, type_len, str_off, str_len
_TYPE = struct.Struct("<III")  # name_off, info, size or type
_MEMBER = struct.Struct("<III")  # name_off, type, offset

# include/uapi/linux/btf.h, BTF_KIND_*: what follows struct btf_type, in bytes: always, and per vlen.
_STRUCT, _UNION = 4, 5
_FUNC = 12  # its type is a FUNC_PROTO, whose type is what is returned
_MODIFIERS = frozenset({8, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type_tag
_FOLLOWS: Mapping[int, tuple[int, int]] = {
    1: (4, 0),  # INT
    2: (0, 0),  # PTR
    3: (12, 0),  # ARRAY
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    6: (0, 8),  # ENUM
    7: (0, 0),  # FWD
    8: (0, 0),  # TYPEDEF
    9: (0, 0),  # VOLATILE
    10: (0, 0),  # CONST
    11: (0, 0),  # RESTRICT
    _FUNC: (0, 0),
    13: (0, 8),  # FUNC_PROTO
    14: (4, 0),  # VAR
    15: (0, 12),  # DATASEC
    16: (0, 0),  # FLOAT
    17: (4, 0),  # DECL_TAG
    18: (0, 0),  # TYPE_TAG
    19: (0, 12),  # ENUM64
}


class Type(NamedTuple):
    """A struct btf_type. What follows it, by its kind, is read by `Btf.follows` and `Btf.members`."""

    name: str
    kind: int
    vlen: int
    bitfields: bool  # kind_flag: a member's offset then has its width in the upper byte
    target: int  # the type that a modifier modifies; the size of a struct
    end: int  # where what follows it begins


class Member(NamedTuple):
    """A member of a struct or union: its offset, and its type's id."""

    name: str
    type: int
    bit: int
    width: int  # of a bit-field, in bits; else 0


class Btf:
    """The types of one kernel, or of a module: its own, numbered on from those of its kernel (`base`).

    Raises ValueError for data that is not BTF.
    """

    def __init__(self, raw: bytes, base: Btf | None = None) -> None:
        if len(raw) < _HEADER.size:
            raise ValueError(f"{len(raw)} bytes are too few for a header")
        magic, version, _, header, types, type_bytes, strings, string_bytes = _HEADER.unpack_from(raw)
        if (magic, version) != (_MAGIC, 1):
            raise ValueError(f"expected magic {_MAGIC:#x} version 1, found {magic:#x} version {version}")
        if header + max(types + type_bytes, strings + string_bytes) > len(raw):
            raise ValueError(f"its sections end after its {len(raw)} bytes")
        self._types = raw[header + types : header + types + type_bytes]
        self._strings = raw[header + strings : header + strings + string_bytes]
        self._base = base
        self._first = len(base._starts) if base else 0  # id of the first own type; the own id 0 is void
        void = () if base else (0,)
        self._starts: array.array[int] = array.array("L", (*void, *self._scan()))  # by type id - _first

    def offset(self, structure: str, path: str) -> int:
        """Bytes from the beginning of `structure` to its field `path` (`se.vruntime`; anonymous ones are not named).

        Raises LookupError that names the structure or field that there is not, ValueError for a bit-field.
        """
        at: int | None = self._structure(structure)
        bits = 0
        for name in path.split("."):
            found = self._find(at, name) if at is not None else None
            if found is None:
                raise LookupError(f"struct {structure} has no field {path}")
            if found.width:
                raise ValueError(f"{structure}.{path} is a bit-field")
            bits += found.bit
            at = self._composite(found.type)
        return bits // 8

    def __len__(self) -> int:
        """One more than the highest id; id 0 is void."""
        return self._first + len(self._starts)

    def type(self, type_id: int) -> Type:
        """Raises IndexError for an id that there is not."""
        return self._by_id(type_id)

    def follows(self, one: Type) -> list[tuple[int, ...]]:
        """The 32-bit words that follow a type of this BTF's own: what always does, then each of `vlen`."""
        always, each = _FOLLOWS[one.kind]
        begins = [(one.end, always)] if always else []
        begins += [(one.end + always + index * each, each) for index in range(one.vlen) if each]
        return [struct.unpack_from(f"<{size // 4}I", self._types, begin) for begin, size in begins]

    def members(self, one: Type) -> list[Member]:
        """The members of a struct or union of this BTF's own."""
        return list(self._members(one.end - _TYPE.size))

    def string(self, at: int) -> str:
        """The name at an offset, as the words of enumerators have it."""
        return self._string(at)

    def void_functions(self, names: Collection[str]) -> frozenset[str]:
        """Those of the functions `names` that return nothing; a function that BTF does not know is none."""
        return self._void_functions.intersection(names)

    @functools.cached_property
    def _void_functions(self) -> frozenset[str]:
        starts = self._starts if self._base else self._starts[1:]
        functions = (self._type(at) for at in starts if self._types[at + 7] & 0x1F == _FUNC)
        return frozenset(one.name for one in functions if self._by_id(one.target).target == 0)

    def _by_id(self, type_id: int) -> Type:
        if self._base and type_id < self._first:
            return self._base._by_id(type_id)
        return self._type(self._starts[type_id - self._first])

    def _structure(self, name: str) -> int:
        if name not in self._structures:
            raise LookupError(f"there is no struct {name}")
        return self._structures[name]

    @functools.cached_property
    def _structures(self) -> dict[str, int]:
        """Where each struct is; the first of a name."""
        # 150000 types: unpacking each would take four times as long.
        places = [at for at in self._starts[1:] if self._types[at + 7] & 0x1F == _STRUCT]
        return {self._type(at).name: at for at in reversed(places)}

    def _find(self, at: int, name: str) -> Member | None:
        """The member `name` of the struct or union at `at`, looked for in its anonymous ones too."""
        for member in self._members(at):
            if member.name == name:
                return member
            inner = self._composite(member.type) if not member.name else None
            found = self._find(inner, name) if inner is not None else None
            if found is not None:
                return found._replace(bit=member.bit + found.bit)
        return None

    def _members(self, at: int) -> Iterator[Member]:
        one = self._type(at)
        for index in range(one.vlen):
            name, type_id, offset = _MEMBER.unpack_from(self._types, one.end + index * _MEMBER.size)
            bit, width = (offset & 0xFFFFFF, offset >> 24) if one.bitfields else (offset, 0)
            yield Member(self._string(name), type_id, bit, width)

    def _composite(self, type_id: int) -> int | None:
        """Where the struct or union is that `type_id` is, behind typedefs and qualifiers; None for anything else."""
        one = self._type(self._starts[type_id]) if type_id else None
        while one is not None and one.kind in _MODIFIERS:
            type_id = one.target
            one = self._type(self._starts[type_id]) if type_id else None
        return self._starts[type_id] if one is not None and one.kind in (_STRUCT, _UNION) else None

    def _type(self, at: int) -> Type:
        name, info, target = _TYPE.unpack_from(self._types, at)
        kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
        return Type(self._string(name), kind, vlen, bool(info >> 31), target, at + _TYPE.size)

    def _string(self, at: int) -> str:
        if self._base and at < len(self._base._strings):
            return self._base._string(at)
        at -= len(self._base._strings) if self._base else 0
        return self._strings[at : self._strings.index(b"\0", at)].decode()

    def _scan(self) -> Iterator[int]:
        """Where each type begins."""
        at = 0
        while at < len(self._types):
            yield at
            (info,) = struct.unpack_from("<I", self._types, at + 4)
            kind = info >> 24 & 0x1F
            if kind not in _FOLLOWS:
                raise ValueError(f"type {kind} at {at:#x} is unknown")
            always, each = _FOLLOWS[kind]
            at += _TYPE.size + always + each * (info & 0xFFFF)


def offsets(kernel: Kernel, wanted: Mapping[str, Iterable[str]]) -> dict[str, dict[str, int]]:
    """The offsets in bytes of the fields `wanted` (structure -> fields), in the same shape.

    A field may be a path (`se.vruntime`); anonymous structs and unions on the way are not named. Raises HostFault for
    a kernel without BTF, or without such a structure or field.
    """
    btf = _of_image(kernel.image)
    try:
        return {name: {field: btf.offset(name, field) for field in fields} for name, fields in wanted.items()}
    except (LookupError, ValueError) as error:
        raise HostFault(f"kernel {kernel.spec} ({kernel.release}): {error}") from error


def void_functions(kernel: Kernel, names: Collection[str]) -> frozenset[str]:
    """Those of the kernel's own functions `names` that return nothing. Raises HostFault for a kernel without BTF."""
    return _of_image(kernel.image).void_functions(names)


def module_void_functions(kernel: Kernel, module: Path, names: Collection[str]) -> frozenset[str]:
    """Those of the functions `names` of a module (a .ko, possibly compressed) that return nothing.

    None of them for a module without BTF, as those built here are. Raises HostFault for a kernel without BTF, or a
    module whose BTF is unreadable.
    """
    try:
        btf = _of_module(module, kernel.image)
        return frozenset() if btf is None else btf.void_functions(names)
    except (ValueError, IndexError) as error:
        raise HostFault(f"a module of kernel {kernel.spec} ({kernel.release}) has unreadable BTF: {error}") from error


def kernel_btf(kernel: Kernel) -> Btf:
    """The types of a kernel without its modules. Raises HostFault for a kernel without BTF."""
    return _of_image(kernel.image)


@functools.lru_cache(maxsize=8)
def _of_module(module: Path, bzimage: Path) -> Btf | None:
    section = ELFFile(BytesIO(decompress(module.read_bytes()))).get_section_by_name(".BTF")
    return None if section is None else Btf(section.data(), _of_image(bzimage))


@functools.lru_cache(maxsize=4)
def _of_image(bzimage: Path) -> Btf:
    try:
        section = ELFFile(BytesIO(extract_vmlinux(bzimage))).get_section_by_name(".BTF")
        if section is None:
            raise ValueError("there is no section .BTF in it")
        return Btf(section.data())
    except (ELFError, ValueError) as error:
        raise HostFault(
            f"{bzimage} does not tell where the fields of its structures are",
            expected="an image with BTF",
            found=str(error),
            hint="build the kernel with CONFIG_DEBUG_INFO_BTF=y (kconfigs/tdx.config has it)",
        ) from error
