from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.platform.tdx.layout import GIB, KIB, MIB, PAGE, pc_cmrs
from harness.platform.tdx.status import STATUS_CODES, Refused
from harness.platform.tdx.tdmr import (
    PT_1GB,
    PT_2MB,
    PT_4KB,
    Candidate,
    Limits,
    TdmrInfo,
    check_tdmr,
    info_size,
)
from tests.platform.tdx.host import PAMTS, construct_tdmrs, memblock

U64 = (1 << 64) - 1
LIMITS = Limits(pc_cmrs(4 * GIB), pa_bits=40, pamt_entry_sizes=(16, 16, 16))
Tdmrs = list[TdmrInfo]
Change = Callable[[Tdmrs], Tdmrs]
u64s = st.integers(0, U64)
ranges = st.tuples(u64s, u64s)


def tdmrs() -> Tdmrs:
    """[0, 3G) and [4G, 5G), with all PAMTs in the first."""
    return construct_tdmrs(memblock(4 * GIB))


def refusal_of(infos: Tdmrs, limits: Limits = LIMITS) -> int:
    """The status with which a list is refused, 0 if it is not."""
    try:
        for number, tdmr in enumerate(infos):
            check_tdmr(Candidate(infos[:number], tdmr, limits))
    except Refused as refused:
        return refused.status
    return 0


def changed(number: int, **fields: object) -> Change:
    """The list with other fields in one TDMR."""
    return lambda infos: [
        replace(info, **fields) if place == number else info  # type: ignore[arg-type]
        for place, info in enumerate(infos)
    ]


def with_pamt(number: int, level: int, base: int | None = None, size: int | None = None) -> Change:
    """The list with another PAMT."""

    def change(infos: Tdmrs) -> Tdmrs:
        pamts = list(infos[number].pamts)
        old_base, old_size = pamts[level]
        pamts[level] = (old_base if base is None else base, old_size if size is None else size)
        return changed(number, pamts=tuple(pamts))(infos)

    return change


def with_reserved(number: int, *areas: tuple[int, int]) -> Change:
    return changed(number, reserved=areas + ((0, 0),) * (16 - len(areas)))


# The first TDMR has [0, 1M) and all PAMTs from 32 MiB on reserved, and what lies above 3 GiB - 128 KiB.
LOW = (0, MIB)
PAMT_AREA = (PAMTS, 32 * MIB)
TOP = (3 * GIB - 128 * KIB, 128 * KIB)
# A PAMT of the second TDMR elsewhere, in memory that the first one has reserved generously.
ELSEWHERE = PAMTS + 24 * MIB


REFUSED: dict[str, tuple[Change, str, tuple[int, ...]]] = {
    # check_and_set_tdmrs
    "the end wraps around, which matters more than the order": (
        changed(1, base=GIB, size=(1 << 64) - GIB),
        "TDX_INVALID_TDMR",
        (1,),
    ),
    "the last address that does not wrap": (changed(1, base=GIB, size=U64 - GIB), "TDX_NON_ORDERED_TDMR", (1,)),
    "in descending order": (lambda infos: infos[::-1], "TDX_NON_ORDERED_TDMR", (1,)),
    "overlapping": (changed(1, base=2 * GIB), "TDX_NON_ORDERED_TDMR", (1,)),
    "the same twice": (lambda infos: [infos[0], infos[0]], "TDX_NON_ORDERED_TDMR", (1,)),
    # check_tdmr_area_addresses_and_size
    "base not at a GiB": (changed(0, base=MIB), "TDX_INVALID_TDMR", (0,)),
    "half a GiB": (changed(1, size=GIB // 2), "TDX_INVALID_TDMR", (1,)),
    "empty": (changed(1, size=0), "TDX_INVALID_TDMR", (1,)),
    "base with a KeyID": (changed(1, base=1 << 40), "TDX_INVALID_TDMR", (1,)),
    "end with a KeyID": (changed(1, size=1 << 40), "TDX_INVALID_TDMR", (1,)),
    # check_tdmr_reserved_areas
    "reserved areas after a null one": (
        with_reserved(0, LOW, (0, 0), TOP),
        "TDX_NON_ORDERED_RESERVED_IN_TDMR",
        (0, 1),
    ),
    "reserved areas descending": (with_reserved(0, PAMT_AREA, LOW), "TDX_NON_ORDERED_RESERVED_IN_TDMR", (0, 1)),
    "reserved areas overlapping": (
        with_reserved(0, LOW, (MIB - PAGE, 2 * PAGE)),
        "TDX_NON_ORDERED_RESERVED_IN_TDMR",
        (0, 1),
    ),
    "reserved area not at a page": (with_reserved(0, (512, MIB)), "TDX_INVALID_RESERVED_IN_TDMR", (0, 0)),
    "reserved area not of pages": (with_reserved(0, (0, MIB + 512)), "TDX_INVALID_RESERVED_IN_TDMR", (0, 0)),
    "reserved area beyond the TDMR": (
        with_reserved(1, (GIB - PAGE, 2 * PAGE)),
        "TDX_INVALID_RESERVED_IN_TDMR",
        (1, 0),
    ),
    "reserved area that wraps": (with_reserved(1, (U64 - MIB + 1, 2 * MIB)), "TDX_INVALID_RESERVED_IN_TDMR", (1, 0)),
    # check_pamt_addresses
    "PAMT not at a page": (with_pamt(0, PT_4KB, base=PAMTS + 512), "TDX_INVALID_PAMT", (0, PT_4KB)),
    "PAMT not of pages": (with_pamt(0, PT_2MB, size=6 * PAGE + 512), "TDX_INVALID_PAMT", (0, PT_2MB)),
    "PAMT with a KeyID": (with_pamt(0, PT_1GB, base=1 << 40), "TDX_INVALID_PAMT", (0, PT_1GB)),
    "PAMT that ends with a KeyID": (with_pamt(0, PT_1GB, size=1 << 40), "TDX_INVALID_PAMT", (0, PT_1GB)),
    "PAMT that wraps": (with_pamt(0, PT_1GB, base=U64 - PAGE + 1, size=2 * PAGE), "TDX_INVALID_PAMT", (0, PT_1GB)),
    "PAMT that wraps to low memory": (
        with_pamt(0, PT_1GB, base=2 * PAGE, size=(1 << 64) - PAGE),
        "TDX_INVALID_PAMT",
        (0, PT_1GB),
    ),
    "PAMT of 4K pages too small": (with_pamt(1, PT_4KB, size=4 * MIB - PAGE), "TDX_INVALID_PAMT", (1, PT_4KB)),
    "PAMT of 2M pages too small": (with_pamt(0, PT_2MB, size=5 * PAGE), "TDX_INVALID_PAMT", (0, PT_2MB)),
    "no PAMT": (with_pamt(0, PT_1GB, size=0), "TDX_INVALID_PAMT", (0, PT_1GB)),
    # check_all_pamt_overlap
    "PAMTs of a TDMR overlap": (with_pamt(0, PT_2MB, base=PAMTS), "TDX_PAMT_OVERLAP", (0, PT_4KB, 0)),
    "PAMTs of two TDMRs overlap": (with_pamt(1, PT_2MB, base=PAMTS), "TDX_PAMT_OVERLAP", (1, PT_2MB, 0)),
    # check_pamt_overlaps_available_areas
    "PAMT in its own TDMR, not reserved": (with_reserved(0, LOW, TOP), "TDX_PAMT_OVERLAP", (0, PT_4KB, 0)),
    "PAMT in an earlier TDMR, not reserved": (
        with_pamt(1, PT_1GB, base=2 * MIB),
        "TDX_PAMT_OVERLAP",
        (1, PT_1GB, 0),
    ),
    "PAMT of an earlier TDMR, in a later one, not reserved": (
        with_pamt(0, PT_1GB, base=4 * GIB),
        "TDX_PAMT_OVERLAP",
        (0, PT_1GB, 1),
    ),
    # check_pamt_in_cmr
    "PAMT where there is no memory": (with_pamt(0, PT_1GB, base=0), "TDX_PAMT_OUTSIDE_CMRS", (0, PT_1GB)),
    "PAMT partly where there is no memory": (
        with_pamt(1, PT_4KB, base=3 * GIB - 128 * KIB),
        "TDX_PAMT_OUTSIDE_CMRS",
        (1, PT_4KB),
    ),
    # check_tdmr_available_areas
    "the first megabyte is not reserved": (with_reserved(0, PAMT_AREA, TOP), "TDX_TDMR_OUTSIDE_CMRS", (0,)),
    "a TDMR in the PCI hole": (changed(1, base=3 * GIB), "TDX_TDMR_OUTSIDE_CMRS", (1,)),
}

ACCEPTED: dict[str, Change] = {
    "as Linux has it": lambda infos: infos,
    "only one": lambda infos: infos[:1],
    "the last area ends with the TDMR": with_reserved(0, LOW, PAMT_AREA, TOP),
    "areas that touch": with_reserved(0, (0, MIB), (MIB, MIB), PAMT_AREA, TOP),
    "what is memory need not be reserved": with_reserved(0, LOW, PAMT_AREA),
    "a whole TDMR reserved": with_reserved(1, (0, GIB)),
    "a TDMR in the PCI hole, all reserved": lambda infos: changed(1, base=3 * GIB)(with_reserved(1, (0, GIB))(infos)),
    "a PAMT larger than need be": lambda infos: with_reserved(0, LOW, PAMT_AREA, TOP)(
        with_pamt(1, PT_1GB, base=ELSEWHERE, size=MIB)(infos)
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_rule_fires(name: str) -> None:
    change, status, details = REFUSED[name]
    expected = STATUS_CODES[status] + sum(detail << 8 * place for place, detail in enumerate(details))
    assert hex(refusal_of(change(tdmrs()))) == hex(expected)


@pytest.mark.parametrize("name", ACCEPTED)
def test_no_rule_fires(name: str) -> None:
    assert hex(refusal_of(ACCEPTED[name](tdmrs()))) == "0x0"


def test_cmrs_without_a_gap_are_one() -> None:
    halves = replace(LIMITS, cmrs=((MIB, GIB - MIB), (GIB, 2 * GIB), (4 * GIB, GIB)))
    assert refusal_of(tdmrs(), halves) == 0
    apart = replace(LIMITS, cmrs=((MIB, GIB - MIB), (GIB + PAGE, 2 * GIB - PAGE), (4 * GIB, GIB)))
    assert refusal_of(tdmrs(), apart) == STATUS_CODES["TDX_TDMR_OUTSIDE_CMRS"]


def test_pamts_grow_with_their_entries() -> None:
    wider = replace(LIMITS, pamt_entry_sizes=(32, 16, 16))
    assert refusal_of(tdmrs(), wider) == STATUS_CODES["TDX_INVALID_PAMT"]


def test_a_pamt_without_entries_still_has_a_place() -> None:
    none = replace(LIMITS, pamt_entry_sizes=(16, 16, 0))
    assert refusal_of(with_pamt(0, PT_1GB, size=0)(tdmrs()), none) == 0
    beyond = with_pamt(0, PT_1GB, base=1 << 40, size=0)(tdmrs())
    assert refusal_of(beyond, none) == STATUS_CODES["TDX_INVALID_PAMT"] + (PT_1GB << 8)


def test_the_bytes_of_a_tdmr_info() -> None:
    """struct tdmr_info of arch/x86/virt/vmx/tdx/tdx.h, word by word."""
    info = TdmrInfo(1, 2, ((7, 8), (5, 6), (3, 4)), ((9, 10), (11, 12)))
    words = [int.from_bytes(info.pack()[place : place + 8], "little") for place in range(0, 96, 8)]
    assert words == list(range(1, 13))
    assert len(info.pack()) == info_size(2)


@given(u64s, u64s, st.tuples(ranges, ranges, ranges), st.lists(ranges, max_size=16))
def test_parse_reads_what_pack_wrote(
    base: int, size: int, pamts: tuple[tuple[int, int], ...], reserved: list[tuple[int, int]]
) -> None:
    info = TdmrInfo(base, size, (pamts[0], pamts[1], pamts[2]), tuple(reserved))
    assert TdmrInfo.parse(info.pack()) == info


@given(st.lists(st.tuples(st.integers(0, 63), st.integers(1, 8)), max_size=6))
def test_available_is_what_is_not_reserved(areas: list[tuple[int, int]]) -> None:
    """Against a bitmap of pages."""
    ordered: list[tuple[int, int]] = []
    for offset, size in sorted(areas):
        if offset >= sum(ordered[-1] if ordered else (0, 0)) and offset + size <= 64:
            ordered.append((offset, size))
    info = TdmrInfo(100, 64, ((0, 0),) * 3, (*ordered, (0, 0)))
    free = {page for start, end in info.available() for page in range(start, end)}
    reserved = {100 + page for offset, size in ordered for page in range(offset, offset + size)}
    assert free == set(range(100, 164)) - reserved
    assert all(info.is_reserved(page) == (page in reserved) for page in range(100, 164))


@given(st.lists(st.binary(min_size=info_size(16), max_size=info_size(16)), max_size=3))
def test_no_bytes_crash_the_checks(memory: list[bytes]) -> None:
    refusal_of([TdmrInfo.parse(data) for data in memory])
