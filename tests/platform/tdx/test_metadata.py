from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.platform.tdx import Layout, ModuleConfig, pc_cmrs
from harness.platform.tdx.fields import FIELDS, NO_FIELD
from harness.platform.tdx.layout import GIB, MIB
from harness.platform.tdx.metadata import Metadata
from harness.platform.tdx.status import STATUS_CODES, Refused

LAYOUT = Layout({0: 0, 1: 1}, pc_cmrs(4 * GIB))
MAX_TDMRS = 0x9100000100000008
ROWS = {row.name: row for row in FIELDS}
ID_INCORRECT = STATUS_CODES["TDX_METADATA_FIELD_ID_INCORRECT"]


def metadata(**config: object) -> Metadata:
    return Metadata(ModuleConfig(**config), LAYOUT)  # type: ignore[arg-type]


def refusal_of(fields: Metadata, field_id: int) -> int:
    with pytest.raises(Refused) as refused:
        fields.read(field_id)
    return refused.value.status


def walk(fields: Metadata) -> Iterator[int]:
    field_id = fields.first()
    while field_id != NO_FIELD:
        yield field_id
        field_id = fields.after(field_id)


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("VENDOR_ID", 0, 0x8086),
        ("NUM_PKGS", 0, 2),
        ("NUM_CMRS", 0, 32),
        ("CMR_BASE", 0, MIB),
        ("CMR_SIZE", 1, GIB),
        ("CMR_SIZE", 2, 0),
        ("MAX_TDMRS", 0, 64),
        ("MAX_RESERVED_PER_TDMR", 0, 16),
        ("PAMT_1G_ENTRY_SIZE", 0, 16),
        ("TDR_BASE_SIZE", 0, 4096),
        ("TDCS_BASE_SIZE", 0, 16384),
        ("TDVPS_BASE_SIZE", 0, 24576),
        ("ATTRIBUTES_FIXED0", 0, 0x10000000),
        ("XFAM_FIXED0", 0, 0xE7),
        ("XFAM_FIXED1", 0, 3),
        ("MAX_VCPUS_PER_TD", 0, 576),
        ("CPUID_CONFIG_LEAVES", 31, (1 << 64) - 1),
        ("CPUID_CONFIG_VALUES", 63, 0),
    ],
)
def test_values(name: str, index: int, value: int) -> None:
    assert metadata().read(ROWS[name].id + index) == value


def test_what_the_configuration_says() -> None:
    fields = metadata(version=(2, 0, 8), features0=5)
    assert [fields[name] for name in ("MAJOR_VERSION", "MINOR_VERSION", "UPDATE_VERSION")] == [2, 0, 8]
    assert fields["TDX_FEATURES0"] == 5


def test_an_override_by_name_and_by_id() -> None:
    fields = metadata(metadata={"max_tdmrs": 3, "0x9900000300000401": 7})
    assert fields.read(MAX_TDMRS) == fields["MAX_TDMRS"] == 3
    assert fields.read(0x9900000300000401) == 7
    assert fields.read(0x9900000300000400) == (1 << 64) - 1


def test_a_missing_field_is_not_told_but_still_obeyed() -> None:
    fields = metadata(missing_metadata=frozenset({"MAX_TDMRS"}))
    assert refusal_of(fields, MAX_TDMRS) == ID_INCORRECT
    assert MAX_TDMRS not in walk(fields)
    assert fields["MAX_TDMRS"] == 64


@pytest.mark.parametrize("wrong", [0x92 << 56, MAX_TDMRS | 1 << 62, MAX_TDMRS | 1 << 34, MAX_TDMRS | 1 << 38])
def test_an_id_that_is_none(wrong: int) -> None:
    assert refusal_of(metadata(), wrong) == ID_INCORRECT


def test_the_walk_visits_every_element_in_the_order_of_the_table() -> None:
    assert list(walk(metadata())) == [row.id + index for row in FIELDS for index in range(row.count)]


def test_after_ignores_what_find_ignores() -> None:
    assert metadata().after(MAX_TDMRS & ~(1 << 63)) == MAX_TDMRS + 1


def listed(data: bytes) -> Iterator[tuple[int, int]]:
    """(id, value) of every element of a metadata list: the inverse of md_dump_list."""
    words = [int.from_bytes(data[place : place + 8], "little") for place in range(0, len(data), 8)]
    assert words[0] & 0xFFFF == len(data)
    place = 1
    for _ in range(words[0] >> 16 & 0xFFFF):
        header = words[place]
        count = ((header >> 34 & 0xF) + 1) * ((header >> 38 & 0x1FF) + 1)
        first = header & ~(0xF << 34 | 0x1FF << 38)
        yield from ((first + index, words[place + 1 + index]) for index in range(count))
        place += 1 + count
    assert place == len(words)


def test_a_list_holds_what_reading_one_by_one_gives() -> None:
    fields = metadata()
    data, following = fields.list_from(NO_FIELD, 4096)
    assert following == NO_FIELD
    ignored = 1 << 63  # a sequence may span ids that differ in it
    assert [(number & ~ignored, value) for number, value in listed(data)] == [
        (number & ~ignored, fields.read(number)) for number in walk(fields)
    ]


@pytest.mark.parametrize("room", [24, 32, 100, 512, 1000])
def test_a_list_in_pieces_is_the_list(room: int) -> None:
    fields = metadata()
    elements: list[int] = []
    following = fields.first()
    while following != NO_FIELD:
        data, following = fields.list_from(following, room)
        assert len(data) <= room
        elements += [number & ~(1 << 63) for number, _ in listed(data)]
        if len(data) == 8:  # no room for a field of two elements
            break
    else:
        assert elements == [number & ~(1 << 63) for number in walk(fields)]
        return
    assert room < 32 and find_name(following) == "CPUID_CONFIG_VALUES"


def find_name(field_id: int) -> str:
    return next(row.name for row in FIELDS if row.index(field_id) is not None)


@pytest.mark.parametrize(
    "start",
    [
        0x92 << 56,
        0x9900000300000501,  # the second element of a field
        0x9100000300000008,  # not the size of the field
    ],
)
def test_a_list_that_cannot_start_there(start: int) -> None:
    with pytest.raises(Refused) as refused:
        metadata().list_from(start, 4096)
    assert refused.value.status == ID_INCORRECT
