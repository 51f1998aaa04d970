"""What the module says about itself: the values of the global metadata fields.

Where a value comes from: md_sys_get_elements in src/common/metadata_handlers/metadata_sys.c. Fields of what the model
does not have (TDs, migration, partitioning, service TDs) read as zero, in accordance with TDX_FEATURES0.
"""

from __future__ import annotations

from itertools import groupby

from harness.platform.tdx.config import ModuleConfig
from harness.platform.tdx.fields import (
    FIELDS,
    IGNORED,
    NO_FIELD,
    Field,
    find,
    is_null,
    is_single_element,
    parse_field,
    sequence_header,
)
from harness.platform.tdx.layout import MAX_CMRS, PAGE, Layout
from harness.platform.tdx.status import refusal

_CONSTANTS: dict[str, int] = {
    "VENDOR_ID": 0x8086,
    "BUILD_DATE": 20250101,
    "NUM_TDX_FEATURES": 1,
    # Hand-off for an update: the version that TDH.SYS.SHUTDOWN accepts. 14 pages is what a td_preserving_hod_t takes
    # (include/auto_gen_1_5/handoff_constants.h).
    "MODULE_HV": 1,
    "MIN_UPDATE_HV": 1,
    "NUM_HANDOFF_PAGES": 14,
    "NUM_CMRS": MAX_CMRS,
    "MAX_TDMRS": 64,  # tdx_global_data.h
    "MAX_RESERVED_PER_TDMR": 16,  # MAX_RESERVED_AREAS, tdx_api_defs.h
    "PAMT_4K_ENTRY_SIZE": 16,  # sizeof(pamt_entry_t)
    "PAMT_2M_ENTRY_SIZE": 16,
    "PAMT_1G_ENTRY_SIZE": 16,
    "PAMT_PAGE_BITMAP_ENTRY_BITS": 1,
    "TDR_BASE_SIZE": PAGE,
    "TDCS_BASE_SIZE": 4 * PAGE,
    "TDVPS_BASE_SIZE": 6 * PAGE,
    "ATTRIBUTES_FIXED0": 1 << 28,  # SEPT_VE_DISABLE, all that kvm_intel asks for
    "XFAM_FIXED0": 0xE7,  # x87, SSE, AVX, AVX-512: what TCG's CPUs may have
    "XFAM_FIXED1": 0x3,
    "MAX_VCPUS_PER_TD": 576,  # td_control_structures.h
}
_NO_CPUID_LEAF = (1 << 64) - 1  # beyond NUM_CPUID_CONFIG, metadata_sys.c


class Metadata:
    """The fields of one module on one machine; they never change while it runs."""

    def __init__(self, config: ModuleConfig, layout: Layout) -> None:
        self._limits = {
            row.id + index: value & row.mask
            for row, values in _module_values(config, layout)
            for index, value in enumerate(values)
        }
        for name, value in config.metadata.items():
            self._limits |= dict.fromkeys(parse_field(name), value)
        missing = {element for name in config.missing_metadata for element in parse_field(name)}
        self._values = {element: value for element, value in self._limits.items() if element not in missing}

    def __getitem__(self, name: str) -> int:
        """The value of a field with one element, for the module's own use: also of one that it does not tell."""
        return self._limits[next(parse_field(name))]

    def read(self, field_id: int) -> int:
        """One element (md_sys_read_element). Raises Refused."""
        if not is_single_element(field_id):
            raise refusal("TDX_METADATA_FIELD_ID_INCORRECT")
        return self._values[self._element(field_id)]

    def after(self, field_id: int) -> int:
        """The id of the element after this one, or NO_FIELD (md_get_next_element_in_context)."""
        elements = list(self._values)
        position = elements.index(self._element(field_id)) + 1
        return elements[position] if position < len(elements) else NO_FIELD

    def first(self) -> int:
        """The id of the first field."""
        return next(iter(self._values), NO_FIELD)

    def list_from(self, field_id: int, room: int) -> tuple[bytes, int]:
        """A metadata list of the fields from `field_id` on, as many as `room` bytes hold, and the id of the next
        field, or NO_FIELD when that was all (md_dump_list). Raises Refused.
        """
        start = self.first() if is_null(field_id) else self._field_start(field_id)
        used, sequences, following = 8, b"", start
        count = 0
        for fields in self._sequences(start):
            row, _ = _row(fields[0])
            fitting = min(len(fields), (room - used - 8) // (8 * row.elements))
            if fitting <= 0:
                break
            sequences += self._sequence(row, fields[:fitting])
            used, count = 8 + len(sequences), count + 1
            following = self.after(fields[fitting - 1] + row.elements - 1)
            if fitting < len(fields):
                break
        header = used.to_bytes(2, "little") + count.to_bytes(2, "little") + bytes(4)
        return header + sequences, following

    def _element(self, field_id: int) -> int:
        """The canonical id of an element that the module has; the size in the id is ignored."""
        found = find(field_id)
        if found is None or found[0].id + found[1] not in self._values:
            raise refusal("TDX_METADATA_FIELD_ID_INCORRECT")
        return found[0].id + found[1]

    def _field_start(self, field_id: int) -> int:
        """An id that a list may start with: of a field's first element, with the right size."""
        element = self._element(field_id)
        row, index = _row(element)
        if index % row.elements or field_id >> 32 & 3 != row.id >> 32 & 3:
            raise refusal("TDX_METADATA_FIELD_ID_INCORRECT")
        return element

    def _sequences(self, start: int) -> list[list[int]]:
        """The fields from `start` on, by the ids of their first elements, in runs of consecutive codes."""
        starts = [element for element in self._values if _row(element)[1] % _row(element)[0].elements == 0]
        starts = starts[starts.index(start) :] if start in starts else []
        # Fields of a run differ only by their code, that by the elements of each, and by what is_sequential_field_id
        # ignores.
        runs = groupby(enumerate(starts), lambda item: (item[1] & ~IGNORED) - item[0] * _row(item[1])[0].elements)
        return [[element for _, element in run] for _, run in runs]

    def _sequence(self, row: Field, fields: list[int]) -> bytes:
        words = [sequence_header(fields[0], row.elements, len(fields))]
        words += [self._values[field + element] for field in fields for element in range(row.elements)]
        return b"".join(word.to_bytes(8, "little") for word in words)


def _row(element: int) -> tuple[Field, int]:
    found = find(element)
    assert found is not None  # elements come from the table
    return found


def _module_values(config: ModuleConfig, layout: Layout) -> list[tuple[Field, list[int]]]:
    major, minor, update = config.version
    bases = [base for base, _ in layout.cmrs]
    sizes = [size for _, size in layout.cmrs]
    special: dict[str, list[int]] = {
        "NUM_PKGS": [layout.package_count],
        "MAJOR_VERSION": [major],
        "MINOR_VERSION": [minor],
        "UPDATE_VERSION": [update],
        "TDX_FEATURES0": [config.features0],
        "CMR_BASE": bases,
        "CMR_SIZE": sizes,
        "CPUID_CONFIG_LEAVES": [_NO_CPUID_LEAF] * 32,
    }
    return [(row, _padded(special.get(row.name, [_CONSTANTS.get(row.name, 0)]), row.count)) for row in FIELDS]


def _padded(values: list[int], count: int) -> list[int]:
    return values + [0] * (count - len(values))
