"""BTF as drgn types: hand-made types for each kind, and a memory that is read by them."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from drgn import Architecture, Object, Platform, PlatformFlags, Program, Type, TypeKind

from harness.kernels.btf import Btf
from harness.postmortem.btf_types import BtfTypes
from tests.kernels.test_btf import Types

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST = range(1, 11)
FUNC_PROTO, VAR, FLOAT, TYPE_TAG, ENUM64 = 13, 14, 16, 18, 19
SIGNED, BOOL = 1 << 24, 4 << 24


def word(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def program(types: Types) -> tuple[Program, BtfTypes]:
    prog = Program(Platform(Architecture.X86_64, PlatformFlags.IS_64_BIT | PlatformFlags.IS_LITTLE_ENDIAN))
    made = BtfTypes(prog, Btf(types.bytes()))
    prog.register_type_finder("btf", made.find, enable_index=0)
    return prog, made


@pytest.fixture
def types() -> Types:
    made = Types()
    made.add(INT, "int", 4, word(SIGNED | 32))  # 1
    made.add(INT, "_Bool", 1, word(BOOL | 8))  # 2
    made.add(INT, "unsigned int", 4, word(32))  # 3
    return made


def test_integers_booleans_and_floats(types: Types) -> None:
    types.add(FLOAT, "double", 8)
    prog, _ = program(types)
    assert (prog.type("int").size, prog.type("int").is_signed) == (4, True)
    assert not prog.type("unsigned int").is_signed
    assert prog.type("_Bool").kind is TypeKind.BOOL
    assert prog.type("double").kind is TypeKind.FLOAT


def test_pointers_arrays_typedefs_and_qualifiers(types: Types) -> None:
    constant = types.add(CONST, target=1)
    pointer = types.add(PTR, target=types.add(VOLATILE, target=constant))
    array = types.add(ARRAY, follows=word(pointer, 3, 5))
    types.add(TYPEDEF, "many_t", target=types.add(TYPE_TAG, "rcu", target=array))
    prog, _ = program(types)
    assert str(prog.type("many_t").type) == "const volatile int *[5]"


def test_structures_unions_and_bit_fields_read_memory(types: Types) -> None:
    both = types.struct("", ("low", 3, 0), ("all", 1, 0), kind=UNION)
    types.struct(
        "node", ("next", types.add(PTR, target=both + 2), 0), ("", both, 64), ("flag", 3, 3 << 24 | 100), flag=1
    )
    prog, _ = program(types)
    memory = struct.pack("<QII", 0x1000, 7, 0b101 << 4).ljust(64, b"\0")
    prog.add_memory_segment(0x1000, 64, lambda address, count, offset, physical: memory[offset : offset + count])
    node = Object(prog, "struct node", address=0x1000)
    assert node.next.value_() == 0x1000
    assert (node.low.value_(), node.next.all.value_(), node.flag.value_()) == (7, 7, 5)


@pytest.mark.parametrize(
    ("kind", "flag", "follows", "value"),
    [(ENUM, 1, word(2**32 - 1), -1), (ENUM, 0, word(2**32 - 1), 2**32 - 1), (ENUM64, 0, word(1, 2), 2 << 32 | 1)],
)
def test_enumerators_have_their_sign_and_width(
    types: Types, kind: int, flag: int, follows: bytes, value: int
) -> None:
    name = types._name("LAST")
    types.add(kind, "state", 8 if kind == ENUM64 else 4, word(name) + follows, 1, flag)
    prog, made = program(types)
    assert [(one.name, one.value) for one in prog.type("enum state").enumerators or ()] == [("LAST", value)]
    assert made.constants["LAST"][1] == value


def test_functions_variables_and_what_is_only_declared(types: Types) -> None:
    proto = types.add(FUNC_PROTO, target=1, follows=word(types._name("first"), 3, 0, 0), vlen=2)
    types.add(TYPEDEF, "callback", target=proto)
    types.add(FWD, "hidden")
    types.add(VAR, "counter", 3, word(0))
    prog, made = program(types)
    assert str(prog.type("callback").type) == "int (unsigned int first, ...)"
    assert made.variables == {"counter": 3}
    hidden = next(made.type(number) for number in range(1, 8) if _is_hidden(made.type(number)))
    assert not hidden.is_complete()


def _is_hidden(one: Type) -> bool:
    return one.kind is TypeKind.STRUCT and one.tag == "hidden"


def test_a_name_that_is_of_another_kind_or_not_there_is_not_found(types: Types) -> None:
    types.struct("a_struct")
    prog, _ = program(types)
    missing: list[Callable[[], Type]] = [lambda: prog.type("union a_struct"), lambda: prog.type("struct nothing")]
    for look in missing:
        with pytest.raises(LookupError):
            look()
