from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.platform.tdx.fields import (
    FIELDS,
    NO_FIELD,
    find,
    is_null,
    is_single_element,
    parse_field,
    sequence_header,
)
from tests.platform.tdx.host import LINUX_FIELDS


@pytest.mark.parametrize("field_id", LINUX_FIELDS, ids=hex)
def test_every_field_that_linux_reads_is_in_the_table(field_id: int) -> None:
    found = find(field_id)
    assert found is not None and found[0].id == field_id


def test_no_id_names_two_fields() -> None:
    for row in FIELDS:
        for index in range(row.count):
            assert find(row.id + index) == (row, index)


def test_the_rows_of_the_table() -> None:
    assert len(FIELDS) == 73  # of the version named in the module
    assert len({row.name for row in FIELDS}) == len(FIELDS)


def test_elements_have_the_bits_that_the_id_says() -> None:
    masks = {row.name: row.mask for row in FIELDS}
    assert masks["NO_DOWNGRADE"] == 0xFF
    assert masks["MAX_TDMRS"] == 0xFFFF
    assert masks["VENDOR_ID"] == 0xFFFF_FFFF
    assert masks["TDX_FEATURES0"] == 0xFFFF_FFFF_FFFF_FFFF


def test_size_context_and_bit_63_do_not_matter_to_find() -> None:
    assert find(0x9100000100000008) == find(0x1100000300000008) == find(0x9110000100000008)


@pytest.mark.parametrize("unknown", [0x91000001_0000000A, 0x9200000100000008, 0x99000003_00000540, NO_FIELD])
def test_find_nothing(unknown: int) -> None:
    assert find(unknown) is None


def test_the_null_id_has_any_context() -> None:
    assert is_null(NO_FIELD) and is_null(NO_FIELD & ~(0b111 << 52)) and not is_null(NO_FIELD - 1)


@pytest.mark.parametrize("bit", [24, 31, 34, 37, 38, 46, 47, 49, 55, 62])
def test_bits_that_one_element_cannot_have(bit: int) -> None:
    assert not is_single_element(0x9100000100000008 | 1 << bit)


@pytest.mark.parametrize("bit", [32, 33, 50, 51, 52, 54, 63])
def test_bits_that_do_not_matter(bit: int) -> None:
    assert is_single_element(0x9100000100000008 | 1 << bit)


def test_a_sequence_header() -> None:
    assert sequence_header(0x9900000300000500, elements=2, fields=32) == 0x9900000300000500 | 1 << 34 | 31 << 38


def test_parse_field() -> None:
    assert list(parse_field("MAX_TDMRS")) == list(parse_field("0x9100000100000008")) == [0x9100000100000008]
    assert list(parse_field("cpuid_config_values"))[-1] == 0x990000030000053F


@pytest.mark.parametrize("wrong", ["", "MAX_TDMR", "0x20", "0x9200000100000008"])
def test_parse_field_refuses(wrong: str) -> None:
    with pytest.raises(UsageError):
        list(parse_field(wrong))
