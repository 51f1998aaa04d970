"""A TD memory region as the host describes it (TDMR_INFO), and what the module checks of it in TDH.SYS.CONFIG.

Layout: tdmr_info_entry_t in include/tdx_api_defs.h; Linux' struct tdmr_info. The checks, their order and the details
in their statuses: src/vmm_dispatcher/api_calls/tdh_sys_config.c, whose function each of them names. Details are the
TDMR's number, and the number of a reserved area or the size of a PAMT's pages with the other TDMR's number.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.platform.tdx.layout import GIB, KIB, MIB, PAGE
from harness.platform.tdx.seamcall import U64
from harness.platform.tdx.status import refusal_at

PT_4KB, PT_2MB, PT_1GB = range(3)  # page_size_t, pamt_manager.h
PAGE_SIZES = {PT_4KB: 4 * KIB, PT_2MB: 2 * MIB, PT_1GB: GIB}

_FIXED = struct.Struct("<8Q")  # base, size, PAMT 1G base and size, 2M, 4K
_AREA = struct.Struct("<2Q")  # offset, size

Range = tuple[int, int]  # base, size


def info_size(max_reserved: int) -> int:
    """Bytes of a TDMR_INFO with room for so many reserved areas."""
    return _FIXED.size + max_reserved * _AREA.size


@dataclass(frozen=True)
class TdmrInfo:
    """One TDMR_INFO as it was in memory, right or wrong; all in bytes."""

    base: int
    size: int
    pamts: tuple[Range, Range, Range]  # of 4K, 2M and 1G pages: indexed by PT_*
    reserved: tuple[Range, ...]  # (offset, size), with the null ones

    @classmethod
    def parse(cls, data: bytes) -> TdmrInfo:
        base, size, *pamts = _FIXED.unpack_from(data)
        g, m, k = zip(pamts[::2], pamts[1::2], strict=True)
        return cls(base, size, (k, m, g), tuple(_AREA.iter_unpack(data[_FIXED.size :])))

    def pack(self) -> bytes:
        """The bytes that `parse` reads."""
        words = [word for pamt in reversed(self.pamts) for word in pamt]
        return _FIXED.pack(self.base, self.size, *words) + b"".join(_AREA.pack(*area) for area in self.reserved)

    @property
    def end(self) -> int:
        return self.base + self.size

    def available(self) -> Iterator[Range]:
        """(start, end) of the parts that are not reserved; the reserved areas have to be in order."""
        start = self.base
        for offset, size in self.reserved:
            if size and self.base + offset > start:
                yield start, self.base + offset
            if size:
                start = self.base + offset + size
        if start < self.end:
            yield start, self.end

    def is_reserved(self, pa: int) -> bool:
        """Whether the page at `pa` lies in a reserved area (is_page_reserved, pamt_manager.c)."""
        return any(self.base + offset <= pa < self.base + offset + size for offset, size in self.reserved)


@dataclass(frozen=True)
class Limits:
    """What the checks need to know of the platform."""

    cmrs: tuple[Range, ...]
    pa_bits: int  # physical address bits below the KeyID
    pamt_entry_sizes: tuple[int, int, int]  # bytes, indexed by PT_*

    def in_cmr(self, start: int, end: int) -> bool:
        """Whether the range lies in one CMR, or in several without a gap (is_area_in_cmr)."""
        return any(base <= start and end <= base_end for base, base_end in self._merged())

    def _merged(self) -> Iterator[Range]:
        previous: Range | None = None
        for base, size in self.cmrs:
            start = previous[0] if previous and previous[1] == base else base
            previous = start, base + size
            yield previous

    def addressable(self, pa: int) -> bool:
        """Whether an address has neither a KeyID nor bits above it."""
        return not pa >> self.pa_bits


@dataclass(frozen=True)
class Candidate:
    """A TDMR under check, with those before it, which have passed."""

    before: Sequence[TdmrInfo]
    tdmr: TdmrInfo
    limits: Limits

    @property
    def number(self) -> int:
        return len(self.before)


def check_tdmr(candidate: Candidate) -> None:
    """All of check_and_set_tdmrs; raises Refused with the status of the first check that fails."""
    for check in _CHECKS:
        check(candidate)


def _check_order(candidate: Candidate) -> None:
    """check_and_set_tdmrs: base and size do not wrap; above the TDMR before, and apart from it."""
    tdmr, number = candidate.tdmr, candidate.number
    if _wraps(tdmr.base, tdmr.size):
        raise refusal_at("TDX_INVALID_TDMR", number)
    if candidate.before and tdmr.base < candidate.before[-1].end:
        raise refusal_at("TDX_NON_ORDERED_TDMR", number)


def _check_area(candidate: Candidate) -> None:
    """check_tdmr_area_addresses_and_size: whole GiB, at least one, within the physical address width."""
    tdmr, limits = candidate.tdmr, candidate.limits
    whole = tdmr.size and tdmr.base % GIB == 0 and tdmr.size % GIB == 0
    if not whole or not limits.addressable(tdmr.end - 1):
        raise refusal_at("TDX_INVALID_TDMR", candidate.number)


def _check_reserved(candidate: Candidate) -> None:
    """check_tdmr_reserved_areas: null ones last; ascending and apart; whole pages; inside the TDMR."""
    areas = candidate.tdmr.reserved
    for number, (area, following) in enumerate(pairwise((*areas, (0, 0)))):
        before = areas[number - 1] if number else (0, 0)
        name = _reserved_fault(candidate.tdmr, before, area, following)
        if name:
            raise refusal_at(name, candidate.number, number)


def _reserved_fault(tdmr: TdmrInfo, before: Range, area: Range, following: Range) -> str | None:
    offset, size = area
    if size == 0:
        return "TDX_NON_ORDERED_RESERVED_IN_TDMR" if following[1] else None
    if _wraps(offset, size):
        return "TDX_INVALID_RESERVED_IN_TDMR"
    if offset < sum(before):
        return "TDX_NON_ORDERED_RESERVED_IN_TDMR"
    if offset % PAGE or size % PAGE or offset + size > tdmr.size:
        return "TDX_INVALID_RESERVED_IN_TDMR"
    return None


def _check_pamts(candidate: Candidate) -> None:
    """check_pamt_addresses: whole pages within the physical address width, and large enough; 1G, 2M, then 4K."""
    for level in (PT_1GB, PT_2MB, PT_4KB):
        if not _pamt_is_valid(candidate, level):
            raise refusal_at("TDX_INVALID_PAMT", candidate.number, level)


def _pamt_is_valid(candidate: Candidate, level: int) -> bool:
    base, size = candidate.tdmr.pamts[level]
    limits = candidate.limits
    if _wraps(base, size) or base % PAGE or size % PAGE:
        return False
    if not limits.addressable(base) or not limits.addressable(base + size - 1 & U64):
        return False
    return size >= candidate.tdmr.size // PAGE_SIZES[level] * limits.pamt_entry_sizes[level]


def _check_pamts_apart(candidate: Candidate) -> None:
    """check_all_pamt_overlap: no PAMT shares memory with another one, of any TDMR."""
    tdmr, number = candidate.tdmr, candidate.number
    for other, earlier in enumerate(candidate.before):
        for level in (PT_4KB, PT_2MB, PT_1GB):
            if any(_overlap(tdmr.pamts[level], pamt) for pamt in earlier.pamts):
                raise refusal_at("TDX_PAMT_OVERLAP", number, level, other)
    for level, pair in ((PT_4KB, PT_2MB), (PT_4KB, PT_1GB), (PT_2MB, PT_1GB)):
        if _overlap(tdmr.pamts[level], tdmr.pamts[pair]):
            raise refusal_at("TDX_PAMT_OVERLAP", number, level, number)


def _check_pamts_reserved(candidate: Candidate) -> None:
    """check_pamt_overlaps_available_areas: where a PAMT lies in a TDMR, that TDMR has it reserved."""
    tdmr, number = candidate.tdmr, candidate.number
    for other, earlier in enumerate((*candidate.before, tdmr)):
        _refuse_pamts_in_available(tdmr, number, earlier, other)
        _refuse_pamts_in_available(earlier, other, tdmr, number)


def _refuse_pamts_in_available(owner: TdmrInfo, owner_number: int, region: TdmrInfo, region_number: int) -> None:
    for level in (PT_4KB, PT_2MB, PT_1GB):
        if any(_overlap(owner.pamts[level], (start, end - start)) for start, end in region.available()):
            raise refusal_at("TDX_PAMT_OVERLAP", owner_number, level, region_number)


def _check_pamts_in_cmr(candidate: Candidate) -> None:
    """check_pamt_in_cmr: PAMTs are in convertible memory; 1G, 2M, then 4K."""
    for level in (PT_1GB, PT_2MB, PT_4KB):
        base, size = candidate.tdmr.pamts[level]
        if not candidate.limits.in_cmr(base, base + size):
            raise refusal_at("TDX_PAMT_OUTSIDE_CMRS", candidate.number, level)


def _check_available(candidate: Candidate) -> None:
    """check_tdmr_available_areas: all that is not reserved is convertible memory."""
    if not all(candidate.limits.in_cmr(start, end) for start, end in candidate.tdmr.available()):
        raise refusal_at("TDX_TDMR_OUTSIDE_CMRS", candidate.number)


_CHECKS: tuple[Callable[[Candidate], None], ...] = (
    _check_order,
    _check_area,
    _check_reserved,
    _check_pamts,
    _check_pamts_apart,
    _check_pamts_reserved,
    _check_pamts_in_cmr,
    _check_available,
)


def _wraps(base: int, size: int) -> bool:
    return base + size > U64


def _overlap(one: Range, other: Range) -> bool:
    """is_overlap of helpers.h."""
    return one[0] < sum(other) and other[0] < sum(one)
