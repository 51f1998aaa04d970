"""Formats as the kernel describes them, and events as it prints them."""

from __future__ import annotations

import struct

import pytest

from harness.probes.trace_format import TraceFormat, parse_formats

COMMON = """\
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

"""
NAMED = (
    "\tfield:unsigned long __probe_ip;\toffset:8;\tsize:8;\tsigned:0;\n"
    "\tfield:u32 state;\toffset:16;\tsize:4;\tsigned:0;\n"
    "\tfield:__data_loc char[] name;\toffset:20;\tsize:4;\tsigned:1;\n"
    "\tfield:s32 ret;\toffset:24;\tsize:4;\tsigned:1;\n"
)


def described(fields: str, shown: str) -> TraceFormat:
    text = f"name: seen\nID: 1500\nformat:\n{COMMON}{fields}\nprint fmt: {shown}\n"
    return parse_formats(text)[1500]


def no_symbol(address: int) -> str:
    raise AssertionError(f"nobody asked for {address:#x}")


def event(state: int, name: bytes, ret: int) -> bytes:
    place = 28 | (len(name) << 16)
    return struct.pack("<HBBiQIIi", 1500, 0, 0, 7, 0xFFFFFFFF81000000, state, place, ret) + name


def test_a_probe_has_its_numbers_and_strings() -> None:
    shown = described(
        NAMED,
        r'"(%lx) state=%u name=\"%s\" ret=%d", REC->__probe_ip, REC->state, __get_str(name), REC->ret',
    )
    text = shown.text(event(6, b"kvm\0", -5), no_symbol)
    assert text == '(ffffffff81000000) state=6 name="kvm" ret=-5'


def test_a_string_that_the_kernel_could_not_read_is_a_fault() -> None:
    shown = described(NAMED, r'"name=\"%s\"", __get_str(name)')
    assert shown.text(event(6, b"", 0), no_symbol) == 'name="(fault)"'


def test_widths_and_function_names_are_as_in_the_kernels_format() -> None:
    shown = described(
        "\tfield:unsigned int cpu;\toffset:8;\tsize:4;\tsigned:0;\n"
        "\tfield:int target;\toffset:12;\tsize:4;\tsigned:1;\n"
        "\tfield:void * fun;\toffset:16;\tsize:8;\tsigned:0;\n",
        '"cpu: %04u target: %3d (%ps)", REC->cpu, REC->target, REC->fun',
    )
    data = struct.pack("<HBBiIiQ", 1500, 0, 0, 7, 3, 36, 0x1234)
    assert shown.text(data, lambda address: f"at_{address:x}") == "cpu: 0003 target:  36 (at_1234)"


def test_an_array_at_the_end_is_a_string_up_to_its_zero() -> None:
    shown = described(
        "\tfield:unsigned long ip;\toffset:8;\tsize:8;\tsigned:0;\n"
        "\tfield:char buf[];\toffset:16;\tsize:0;\tsigned:0;\n",
        '"%ps: %s", (void *)REC->ip, REC->buf',
    )
    data = struct.pack("<HBBiQ", 1500, 0, 0, 7, 1) + b"harness:end:load\n\0\xff"
    assert shown.text(data, lambda _: "mark") == "mark: harness:end:load\n"


@pytest.mark.parametrize(
    "shown",
    [
        '"%s", __print_symbolic(REC->state, { 0, "zero" })',
        '"%d", REC->state + 1',
        '"%d", REC->unknown',
        '"%d"',
    ],
)
def test_more_of_c_than_is_understood_leaves_the_text_unknown(shown: str) -> None:
    assert described(NAMED, shown).text(event(6, b"kvm\0", 0), no_symbol) is None


def test_a_format_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="no ID"):
        parse_formats("name: seen\nformat:\n")
