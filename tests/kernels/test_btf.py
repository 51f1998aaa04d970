"""Offsets out of BTF: hand-made types for the rules, and real kernels against pahole(1)."""

from __future__ import annotations

import itertools
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from harness.deadline import Deadline
from harness.errors import HostFault
from harness.images.modules import ModuleTree
from harness.kernels import BuildOptions, Kernel, resolve
from harness.kernels.btf import Btf, module_void_functions, offsets
from harness.kernels.vmlinux import extract_vmlinux
from tests.kernels.images import bzimage

INT, PTR, STRUCT, UNION, TYPEDEF, CONST, FUNC, FUNC_PROTO, ENUM64 = 1, 2, 4, 5, 8, 10, 12, 13, 19


class Types:
    """Writes BTF. Each method returns the new type's id."""

    def __init__(self, base: Types | None = None) -> None:
        """With `base`, what a module adds to it: ids and strings go on from there."""
        self._types = b""
        self._strings = b"" if base else b"\0"
        self._shift = len(base._strings) if base else 0
        self._ids: Iterator[int] = itertools.count(next(base._ids) if base else 1)

    def add(
        self, kind: int, name: str = "", target: int = 0, follows: bytes = b"", vlen: int = 0, flag: int = 0
    ) -> int:
        self._types += struct.pack("<III", self._name(name), flag << 31 | kind << 24 | vlen, target) + follows
        return next(self._ids)

    def struct(self, name: str, *members: tuple[str, int, int], kind: int = STRUCT, flag: int = 0) -> int:
        """Members as (name, type, offset as it is encoded)."""
        packed = [struct.pack("<III", self._name(member), type_id, offset) for member, type_id, offset in members]
        return self.add(kind, name, 64, b"".join(packed), len(members), flag)

    def bytes(self) -> bytes:
        sizes = 0, len(self._types), len(self._types), len(self._strings)
        return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, *sizes) + self._types + self._strings

    def _name(self, name: str) -> int:
        if not name:
            return 0
        self._strings += name.encode() + b"\0"
        return self._shift + len(self._strings) - len(name) - 1


@pytest.fixture
def btf() -> Btf:
    types = Types()
    number = types.add(INT, "int", 4, b"\x20\0\0\x01")
    types.add(ENUM64, "big", 8, bytes(24), vlen=2)  # has to be stepped over
    inner = types.struct("inner", ("a", number, 0), ("b", number, 32))
    alias = types.add(TYPEDEF, "inner_t", types.add(CONST, "", inner))
    nameless = types.struct("", ("deep", alias, 64), kind=STRUCT)
    union = types.struct("", ("first", number, 0), ("", nameless, 0), kind=UNION)
    types.add(TYPEDEF, "outer", number)  # not the struct of that name
    pointer = types.add(PTR, "", inner)
    types.struct("outer", ("x", number, 0), ("", union, 128), ("to", pointer, 512), ("in", alias, 96))
    types.struct("bits", ("flag", number, 1 << 24 | 33), ("whole", number, 64), flag=1)
    types.add(FUNC, "gives", types.add(FUNC_PROTO, "", number))
    types.add(FUNC, "does", types.add(FUNC_PROTO, "", 0))
    return Btf(types.bytes())


@pytest.mark.parametrize(
    ("structure", "path", "expected"),
    [
        ("inner", "b", 4),
        ("outer", "x", 0),
        ("outer", "first", 16),  # in an anonymous union
        ("outer", "deep", 24),  # in an anonymous struct in that
        ("outer", "deep.b", 28),  # through a typedef of a const
        ("outer", "in.a", 12),
        ("bits", "whole", 8),  # beside bit-fields, the width is taken off
    ],
)
def test_offset(btf: Btf, structure: str, path: str, expected: int) -> None:
    assert btf.offset(structure, path) == expected


@pytest.mark.parametrize(
    ("structure", "path", "message"),
    [
        ("missing", "a", "there is no struct missing"),
        ("outer", "y", "struct outer has no field y"),
        ("outer", "x.y", r"struct outer has no field x\.y"),
        ("outer", "to.a", r"struct outer has no field to\.a"),  # a pointer is not followed
        ("bits", "flag", r"bits\.flag is a bit-field"),
    ],
)
def test_no_offset(btf: Btf, structure: str, path: str, message: str) -> None:
    with pytest.raises((LookupError, ValueError), match=message):
        btf.offset(structure, path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "0 bytes are too few"),
        (Types().bytes().replace(b"\x9f\xeb", b"\xeb\x9f"), "expected magic 0xeb9f"),
        (Types().bytes()[:-1], "sections end after"),
        (
            struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12, 12, 1) + struct.pack("<III", 0, 31 << 24, 0) + b"\0",
            "type 31",
        ),
    ],
)
def test_what_is_not_btf(raw: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Btf(raw)


def test_kernel_without_btf(tmp_path: Path) -> None:
    kernel = Kernel("image:bz", "6.12.0", bzimage(tmp_path / "bz", b"not an ELF file"), {}, None)
    with pytest.raises(HostFault, match="fields of its structures") as caught:
        offsets(kernel, {"task_struct": ["comm"]})
    assert "CONFIG_DEBUG_INFO_BTF" in caught.value.hint


def test_functions_that_return_nothing(btf: Btf) -> None:
    assert btf.void_functions({"gives", "does", "unknown"}) == {"does"}


def test_functions_of_a_module_with_prototypes_of_its_own_and_of_its_kernel() -> None:
    kernel = Types()
    number = kernel.add(INT, "int", 4, b"\x20\0\0\x01")
    gives, does = kernel.add(FUNC_PROTO, "", number), kernel.add(FUNC_PROTO, "", 0)
    kernel.add(FUNC, "elsewhere", does)
    raw = kernel.bytes()
    module = Types(kernel)
    module.add(FUNC, "gives", gives)
    module.add(FUNC, "does", does)
    module.add(FUNC, "gives_too", module.add(FUNC_PROTO, "", number))
    module.add(FUNC, "does_too", module.add(FUNC_PROTO, "", 0))
    split = Btf(module.bytes(), Btf(raw))
    assert split.void_functions({"gives", "does", "gives_too", "does_too", "elsewhere"}) == {"does", "does_too"}


@pytest.mark.network
@pytest.mark.parametrize("spec", ["debian:6.12", "debian:7.3"])
def test_functions_of_a_real_module(spec: str, deadline: Deadline) -> None:
    kernel = resolve(spec, BuildOptions(), deadline)
    (module,) = [one for one in ModuleTree(kernel).resolve(["kvm"]) if one.name == "kvm"]
    names = {"kvm_init", "kvm_exit", "kvm_x86_vendor_exit", "kvm_arch_vcpu_load", "kvm_arch_vcpu_create"}
    void = module_void_functions(kernel, module.source, names)
    assert void == {"kvm_exit", "kvm_x86_vendor_exit", "kvm_arch_vcpu_load"}


WANTED = {"task_struct": ["comm", "pid"], "module": ["name", "kallsyms"], "mod_kallsyms": ["symtab", "num_symtab"]}


@pytest.mark.network
@pytest.mark.skipif(shutil.which("pahole") is None, reason="pahole is the second opinion; scripts/setup installs it")
@pytest.mark.parametrize("spec", ["debian:6.1", "debian:6.12", "debian:7.3"])
def test_real_kernel(spec: str, tmp_path: Path, deadline: Deadline) -> None:
    kernel = resolve(spec, BuildOptions(), deadline)
    section = ELFFile(BytesIO(extract_vmlinux(kernel.image))).get_section_by_name(".BTF")
    assert section is not None
    (tmp_path / "btf").write_bytes(section.data())
    found = offsets(kernel, WANTED)
    assert found == {name: _by_pahole(tmp_path / "btf", name, fields) for name, fields in WANTED.items()}
    with pytest.raises(HostFault, match="struct module has no field nonsense"):
        offsets(kernel, {"module": ["nonsense"]})


def _by_pahole(btf: Path, structure: str, fields: list[str]) -> dict[str, int]:
    text = subprocess.run(
        ["pahole", "-F", "btf", "-C", structure, btf], check=True, capture_output=True, text=True
    ).stdout
    found = {}
    for field in fields:
        match = re.search(rf"\b{field}(?:\[\w+\])?;\s+/\*\s+(\d+)", text)
        assert match, text
        found[field] = int(match[1])
    return found
