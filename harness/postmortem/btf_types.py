"""A kernel's BTF as types for drgn, which by itself wants DWARF: a gigabyte to fetch for a Debian kernel.

Formats: Documentation/bpf/btf.rst; drgn's documentation, "Type Constructors". A struct's members are made when they
are looked at, since everything leads to everything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

from drgn import (
    Object,
    Program,
    Qualifiers,
    Type,
    TypeEnumerator,
    TypeKind,
    TypeKindSet,
    TypeMember,
    TypeParameter,
)

from harness.kernels.btf import Btf
from harness.kernels.btf import Type as BtfType

# include/uapi/linux/btf.h, BTF_KIND_*
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = range(1, 9)
_VOLATILE, _CONST, _RESTRICT, _FUNC, _PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(9, 20)

_QUALIFIERS = {_VOLATILE: Qualifiers.VOLATILE, _CONST: Qualifiers.CONST, _RESTRICT: Qualifiers.RESTRICT}
_SIGNED, _BOOL = 1, 4  # BTF_INT_SIGNED, BTF_INT_BOOL

_KINDS = {
    _INT: TypeKind.INT,
    _STRUCT: TypeKind.STRUCT,
    _UNION: TypeKind.UNION,
    _ENUM: TypeKind.ENUM,
    _ENUM64: TypeKind.ENUM,
    _TYPEDEF: TypeKind.TYPEDEF,
    _FLOAT: TypeKind.FLOAT,
}


class BtfTypes:
    """The types of `btf` in `prog`."""

    def __init__(self, prog: Program, btf: Btf) -> None:
        self._prog = prog
        self._btf = btf
        self._made: dict[int, Type] = {}

    def find(self, prog: Program, kinds: TypeKindSet, name: str, filename: str | None) -> Type | None:
        """What `Program.register_type_finder` takes. BTF knows no files."""
        for type_id in self._by_name.get(name, ()):
            found = self.type(type_id)
            if found.kind in kinds:
                return found
        return None

    @functools.cached_property
    def variables(self) -> Mapping[str, int]:
        """The ids of the types of variables, by name; the kernel has per-CPU ones only."""
        types = map(self._btf.type, range(1, len(self._btf)))
        return {one.name: one.target for one in types if one.kind == _VAR}

    @functools.cached_property
    def constants(self) -> Mapping[str, tuple[int, int]]:
        """The enumerators, by name: the id of their type, and their value."""
        found: dict[str, tuple[int, int]] = {}
        for type_id in range(1, len(self._btf)):
            one = self._btf.type(type_id)
            if one.kind in (_ENUM, _ENUM64):
                found |= {name: (type_id, value) for name, value in self._values(one)}
        return found

    def type(self, type_id: int) -> Type:
        """The type of an id; 0 is void."""
        if type_id not in self._made:
            self._made[type_id] = self._make(type_id)
        return self._made[type_id]

    @functools.cached_property
    def _by_name(self) -> Mapping[str, list[int]]:
        names: dict[str, list[int]] = {}
        for type_id in range(1, len(self._btf)):
            one = self._btf.type(type_id)
            if one.kind in _KINDS and one.name:
                names.setdefault(one.name, []).append(type_id)
        return names

    def _make(self, type_id: int) -> Type:
        if not type_id:
            return self._prog.void_type()
        one = self._btf.type(type_id)
        if one.kind in _QUALIFIERS:
            target = self.type(one.target)
            return target.qualified(target.qualifiers | _QUALIFIERS[one.kind])
        return _MAKERS[one.kind](self, one)

    def _int(self, one: BtfType) -> Type:
        encoding = self._btf.follows(one)[0][0] >> 24 & 0xF
        if encoding & _BOOL:
            return self._prog.bool_type(one.name, one.target)
        return self._prog.int_type(one.name, one.target, bool(encoding & _SIGNED))

    def _pointer(self, one: BtfType) -> Type:
        return self._prog.pointer_type(self.type(one.target))

    def _array(self, one: BtfType) -> Type:
        element, _, length = self._btf.follows(one)[0]
        return self._prog.array_type(self.type(element), length)

    def _compound(self, one: BtfType) -> Type:
        members = [
            TypeMember(self._later(member.type, member.width), member.name or None, member.bit)
            for member in self._btf.members(one)
        ]
        make = self._prog.struct_type if one.kind == _STRUCT else self._prog.union_type
        return make(one.name or None, one.target, members)

    def _later(self, type_id: int, width: int) -> Callable[[], Type | Object]:
        if width:
            return lambda: Object(self._prog, self.type(type_id), bit_field_size=width)
        return lambda: self.type(type_id)

    def _enum(self, one: BtfType) -> Type:
        compatible = self._prog.int_type("long" if one.kind == _ENUM64 else "int", one.target, one.bitfields)
        values = [TypeEnumerator(name, value) for name, value in self._values(one)]
        return self._prog.enum_type(one.name or None, compatible, values)

    def _values(self, one: BtfType) -> Iterator[tuple[str, int]]:
        """The names and values of an enum, whose flag says that it is signed."""
        for name, *words in self._btf.follows(one):
            data = b"".join(word.to_bytes(4, "little") for word in words)
            yield self._btf.string(name), int.from_bytes(data, "little", signed=one.bitfields)

    def _forward(self, one: BtfType) -> Type:
        # Its flag says that it is a union's.
        return (self._prog.union_type if one.bitfields else self._prog.struct_type)(one.name)

    def _typedef(self, one: BtfType) -> Type:
        return self._prog.typedef_type(one.name, self.type(one.target))

    def _function(self, one: BtfType) -> Type:
        parameters = self._btf.follows(one)
        variadic = bool(parameters) and parameters[-1] == (0, 0)
        made = [
            TypeParameter(self._later(type_id, 0), self._btf.string(name) or None)
            for name, type_id in (parameters[:-1] if variadic else parameters)
        ]
        return self._prog.function_type(self.type(one.target), made, variadic)

    def _float(self, one: BtfType) -> Type:
        return self._prog.float_type(one.name, one.target)

    def _target(self, one: BtfType) -> Type:
        return self.type(one.target)


_MAKERS: Mapping[int, Callable[[BtfTypes, BtfType], Type]] = {
    _INT: BtfTypes._int,
    _PTR: BtfTypes._pointer,
    _ARRAY: BtfTypes._array,
    _STRUCT: BtfTypes._compound,
    _UNION: BtfTypes._compound,
    _ENUM: BtfTypes._enum,
    _ENUM64: BtfTypes._enum,
    _FWD: BtfTypes._forward,
    _TYPEDEF: BtfTypes._typedef,
    _PROTO: BtfTypes._function,
    _FLOAT: BtfTypes._float,
    _TYPE_TAG: BtfTypes._target,
    _FUNC: BtfTypes._target,
    _VAR: BtfTypes._target,
}
