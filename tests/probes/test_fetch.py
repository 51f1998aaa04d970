"""Fetch expressions of the kernel's own syntax, compiled for the plugin."""

from __future__ import annotations

import pytest

from harness.probes.fetch import Fetch, compile_fetch

VARIABLES = {"system_state": 0xFFFFFFFF82A00000}


@pytest.mark.parametrize(
    ("expression", "spec", "type_"),
    [
        ("%di:u32", "r:rdi:4", "u32"),
        ("%di", "r:rdi:8", "x64"),
        ("%r10:s8", "r:r10:1", "s8"),
        ("$arg1:u32", "r:rdi:4", "u32"),
        ("$arg4", "r:rcx:8", "x64"),
        ("@system_state:u32", "m:ffffffff82a00000:4", "u32"),
        ("@system_state+8:u64", "m:ffffffff82a00008:8", "u64"),
        ("@0xffffffff81000000:x16", "m:ffffffff81000000:2", "x16"),
        ("+24(%di):string", "d:rdi:18:40s", "string"),
        ("+0x10($arg2):u32", "d:rsi:10:4", "u32"),
        ("-8(%sp)", "d:rsp:fffffffffffffff8:8", "x64"),
    ],
)
def test_what_the_plugin_can_do(expression: str, spec: str, type_: str) -> None:
    assert compile_fetch(expression, VARIABLES.get) == Fetch(spec, type_)


@pytest.mark.parametrize(
    "expression",
    [
        "@no_such_variable:u32",
        "+0(+8(%di)):u32",  # nested
        "+u0(%si):string",  # user memory
        "%di:b4@0/32",  # bit-field
        "%di:x32[4]",  # array
        "%di:string",  # a register is no string
        "$stack0",
        "$comm",
        "$retval",
        "%flags",
        "$arg7",  # on the stack
        "\\1",
        "",
    ],
)
def test_what_stays_with_the_kernel_s_tracer(expression: str) -> None:
    assert compile_fetch(expression, VARIABLES.get) is None


@pytest.mark.parametrize(
    ("type_", "raw", "text"),
    [
        ("u32", 3, "3"),
        ("s32", 0xFFFFFFFB, "-5"),
        ("s32", 5, "5"),
        ("x64", 0x10, "0x10"),
        ("u8", "0x10", "16"),
        ("string", "kvm_intel", "kvm_intel"),
    ],
)
def test_values_read_as_the_kernel_s_tracer_prints_them(type_: str, raw: int | str, text: str) -> None:
    assert Fetch("", type_).text(raw) == text
