from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.platform.tdx import parse_status, status_name, status_text
from harness.platform.tdx.status import CODE_MASK, STATUS_CODES, Operand, refusal, refusal_at


def test_codes_that_linux_knows_too() -> None:
    """arch/x86/include/asm/shared/tdx_errno.h"""
    assert parse_status("TDX_INTERRUPTED_RESUMABLE") == 0x8000_0003_0000_0000
    assert parse_status("TDX_SYS_BUSY") == 0x8000_0202_0000_0000
    assert parse_status("TDX_OPERAND_INVALID") == 0xC000_0100_0000_0000
    assert parse_status("TDX_KEY_CONFIGURED") == 0x0000_0815_0000_0000
    assert parse_status("TDX_RND_NO_ENTROPY") == 0x8000_0203_0000_0000


def test_codes_leave_room_for_details_and_differ() -> None:
    assert not [name for name, code in STATUS_CODES.items() if code & ~CODE_MASK]
    assert len(set(STATUS_CODES.values())) == len(STATUS_CODES)


def test_the_name_is_that_of_the_code_without_details() -> None:
    assert status_name(0) == "TDX_SUCCESS"
    assert status_name(0xC000_0100_0000_0001) == "TDX_OPERAND_INVALID"
    assert status_name(0xC000_FFFF_0000_0001) == "0xc000ffff00000001"


def test_the_text_has_the_details() -> None:
    assert status_text(0x8000_0202_0000_0000) == "TDX_SYS_BUSY"
    assert status_text(refusal("TDX_OPERAND_INVALID", Operand.R8).status) == "TDX_OPERAND_INVALID (0x00000008)"


def test_details_are_bytes_from_the_lowest() -> None:
    assert refusal_at("TDX_PAMT_OVERLAP", 1, 2, 3).status == 0xC000_0A12_0003_0201


@pytest.mark.parametrize("name", STATUS_CODES)
def test_parse_status_is_the_inverse_of_status_name(name: str) -> None:
    assert status_name(parse_status(name)) == name


def test_parse_status_takes_numbers() -> None:
    assert parse_status("0xC000010000000001") == parse_status(0xC000_0100_0000_0001) == 0xC000_0100_0000_0001


@pytest.mark.parametrize("wrong", ["TDX_BUSY", "", "busy", "0x1_0000_0000_0000_0000", -1, 1 << 64])
def test_parse_status_refuses(wrong: str | int) -> None:
    with pytest.raises(UsageError):
        parse_status(wrong)


def test_a_misspelt_name_gets_a_hint() -> None:
    with pytest.raises(UsageError, match="TDX_SYS_BUSY"):
        parse_status("TDX_SYS_BUZY")
