"""The global metadata fields of the module: their ids, how many elements they have, in which order they come.

The table is global_sys_lookup of intel/tdx-module, include/auto_gen_1_5/global_sys_fields_lookup.c; its order is what
TDH.SYS.RD walks when it returns the next field's id. The bits of an id are md_field_id_t of include/tdx_api_defs.h:

    23:0 field code   33:32 log2 of the element's bytes   37:34 last element   46:38 last field
    50 increment   51 write mask   54:52 context (0: the system)   61:56 class   63 ignored

Linux reads them by number (arch/x86/virt/vmx/tdx/tdx_global_metadata.c).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import UsageError

NO_FIELD = (1 << 64) - 1  # MD_FIELD_ID_NA, metadata_generic.h

IGNORED = 1 << 63
_CODE = 0xFF_FFFF
_CONTEXT = 0b111 << 52
_CLASS = 0x3F << 56
_LAST_ELEMENT_SHIFT = 34
_LAST_FIELD_SHIFT = 38
_LASTS = 0xF << _LAST_ELEMENT_SHIFT | 0x1FF << _LAST_FIELD_SHIFT
_RESERVED = 0xFF << 24 | 0b111 << 47 | 1 << 55 | 1 << 62


@dataclass(frozen=True)
class Field:
    """One row: `fields` fields of `elements` elements each, with consecutive codes from that of `id`."""

    name: str
    id: int
    fields: int = 1
    elements: int = 1

    @property
    def count(self) -> int:
        return self.fields * self.elements

    @property
    def mask(self) -> int:
        """The bits an element has."""
        return (1 << (8 << (self.id >> 32 & 3))) - 1

    def index(self, field_id: int) -> int | None:
        """Which of the row's elements an id names; None if it is none of them (md_find_entry_idx)."""
        offset = (field_id & _CODE) - (self.id & _CODE)
        same_class = field_id & _CLASS == self.id & _CLASS
        return offset if same_class and 0 <= offset < self.count else None


FIELDS: tuple[Field, ...] = (
    Field("NUM_PKGS", 0x0000000200000000),
    Field("PKG_FMS", 0x0000000200000001, fields=8),
    Field("VENDOR_ID", 0x0800000200000000),
    Field("BUILD_DATE", 0x8800000200000001),
    Field("BUILD_NUM", 0x8800000100000002),
    Field("MINOR_VERSION", 0x0800000100000003),
    Field("MAJOR_VERSION", 0x0800000100000004),
    Field("UPDATE_VERSION", 0x0800000100000005),
    Field("INTERNAL_VERSION", 0x0800000100000006),
    Field("MODULE_HV", 0x8900000100000000),
    Field("MIN_UPDATE_HV", 0x8900000100000001),
    Field("NO_DOWNGRADE", 0x8900000000000002),
    Field("NUM_HANDOFF_PAGES", 0x8900000100000003),
    Field("HANDOFF_DATA_VALID", 0x8900000000000004),
    Field("HANDOFF_DATA_HV", 0x8900000100000005),
    Field("HANDOFF_DATA_SIZE", 0x8900000200000006),
    Field("SYS_ATTRIBUTES", 0x0A00000200000000),
    Field("NUM_TDX_FEATURES", 0x0A00000000000001),
    Field("TDX_FEATURES0", 0x0A00000300000008),
    Field("NUM_CMRS", 0x9000000100000000),
    Field("CMR_BASE", 0x9000000300000080, fields=32),
    Field("CMR_SIZE", 0x9000000300000100, fields=32),
    Field("MAX_TDMRS", 0x9100000100000008),
    Field("MAX_RESERVED_PER_TDMR", 0x9100000100000009),
    Field("PAMT_4K_ENTRY_SIZE", 0x9100000100000010),
    Field("PAMT_2M_ENTRY_SIZE", 0x9100000100000011),
    Field("PAMT_1G_ENTRY_SIZE", 0x9100000100000012),
    Field("PAMT_PAGE_BITMAP_ENTRY_BITS", 0x9100000000000013),
    Field("MIN_DYNAMIC_PAMT_NUM_HKID_BITS", 0x9100000000000014),
    Field("TDR_BASE_SIZE", 0x9800000100000000),
    Field("TDCS_BASE_SIZE", 0x9800000100000100),
    Field("TDCS_SIZE_PER_L2_VM", 0x9800000100000101),
    Field("TDVPS_BASE_SIZE", 0x9800000100000200),
    Field("TDVPS_SIZE_PER_L2_VM", 0x9800000100000201),
    Field("ATTRIBUTES_FIXED0", 0x1900000300000000),
    Field("ATTRIBUTES_FIXED1", 0x1900000300000001),
    Field("XFAM_FIXED0", 0x1900000300000002),
    Field("XFAM_FIXED1", 0x1900000300000003),
    Field("NUM_CPUID_CONFIG", 0x9900000100000004),
    Field("CONFIG_FLAGS_FIXED0", 0x9900000300000006),
    Field("CONFIG_FLAGS_FIXED1", 0x9900000300000007),
    Field("MAX_VCPUS_PER_TD", 0x9900000100000008),
    Field("MIN_VIRT_MAXPA", 0x9900000000000009),
    Field("MAX_EVENT_FILTERS", 0x990000010000000A),
    Field("CPUID_CONFIG_LEAVES", 0x9900000300000400, fields=32),
    Field("CPUID_CONFIG_VALUES", 0x9900000300000500, fields=32, elements=2),
    Field("IA32_ARCH_CAPABILITIES_CONFIG_MASK", 0x9900000300000600),
    Field("NUM_ALLOWED_FMS", 0x9900000100000800),
    Field("NUM_DISALLOWED_FMS", 0x9900000100000801),
    Field("ALLOWED_FMS", 0x9900000300000810, fields=64),
    Field("DISALLOWED_FMS", 0x9900000300000850, fields=64),
    Field("MIG_ATTRIBUTES", 0xA000000300000000),
    Field("MIN_EXPORT_VERSION", 0x2000000100000001),
    Field("MAX_EXPORT_VERSION", 0x2000000100000002),
    Field("MIN_IMPORT_VERSION", 0x2000000100000003),
    Field("MAX_IMPORT_VERSION", 0x2000000100000004),
    Field("MAX_MIGS", 0xA000000100000010),
    Field("NUM_IMMUTABLE_STATE_PAGES", 0xA000000000000020),
    Field("NUM_TD_STATE_PAGES", 0xA000000000000021),
    Field("NUM_VP_STATE_PAGES", 0xA000000000000022),
    Field("NUM_MEM_SCAN_CONTROL_PAGES", 0xA000000000000030),
    Field("MAX_MEM_SCAN_RANGES", 0xA000000100000031),
    Field("NUM_MEM_SCAN_CONTEXTS", 0xA000000100000032),
    Field("MAX_SERV_TDS", 0xA100000100000000),
    Field("SERVTD_ATTR_FIXED0", 0xA100000300000001),
    Field("SERVTD_ATTR_FIXED1", 0xA100000300000002),
    Field("GUEST_L2_GPA_ATTR_MASK", 0xA200000100000000),
    Field("VM_CTLS_FIXED0", 0xA200000300000001),
    Field("VM_CTLS_FIXED1", 0xA200000300000002),
    Field("VPCU_L2_CTLS_FIXED0", 0xA200000300000003),
    Field("VCPU_L2_CTLS_FIXED1", 0xA200000300000004),
    Field("VPCU_L2_DEBUG_CTLS_FIXED0", 0xA200000300000005),
    Field("VCPU_L2_DEBUG_CTLS_FIXED1", 0xA200000300000006),
)
_BY_NAME = {row.name: row for row in FIELDS}


def find(field_id: int) -> tuple[Field, int] | None:
    """The row that an id belongs to, and which of its elements it names."""
    for row in FIELDS:
        index = row.index(field_id)
        if index is not None:
            return row, index
    return None


def is_null(field_id: int) -> bool:
    """Whether an id asks for the first field: all ones, whatever the context (is_null_field_id)."""
    return field_id | _CONTEXT == NO_FIELD


def is_single_element(field_id: int) -> bool:
    """Whether an id names one element, not a sequence (md_check_as_single_element_id)."""
    return not field_id & (_RESERVED | _LASTS)


def sequence_header(field_id: int, elements: int, fields: int) -> int:
    """The header of `fields` consecutive fields of `elements` elements each, from `field_id` on."""
    return field_id | (elements - 1) << _LAST_ELEMENT_SHIFT | (fields - 1) << _LAST_FIELD_SHIFT


def parse_field(name_or_id: str) -> Iterator[int]:
    """The ids of the elements that "MAX_TDMRS" or "0x9100000100000008" names; UsageError if there is none."""
    row = _BY_NAME.get(name_or_id.upper())
    if row is not None:
        yield from range(row.id, row.id + row.count)
        return
    try:
        found = find(int(name_or_id, 0))
    except ValueError:
        found = None
    if found is None:
        raise UsageError(
            f"unknown TDX metadata field {name_or_id!r}",
            expected="a name such as MAX_TDMRS, or a field's id",
            hint=", ".join(difflib.get_close_matches(name_or_id.upper(), _BY_NAME)),
        )
    row, index = found
    yield row.id + index
