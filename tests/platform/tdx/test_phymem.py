from __future__ import annotations

import pytest

from harness.platform.tdx import status_name
from harness.platform.tdx.layout import GIB, MIB, PAGE
from tests.platform.tdx.host import PAMTS, Host

PT_NDA, PT_RSVD = 0, 1
INVALID = 0xC000010000000001
NO_TDMR = 0xC000010100000001
INCORRECT = 0xC000030000000001


@pytest.fixture(scope="module")
def host() -> Host:
    """[0, 3G) and [4G, 5G), with PAMTs from 32 MiB on."""
    host = Host.of(memory=4 * GIB)
    host.bring_up()
    return host


@pytest.mark.parametrize(
    ("pa", "page_type"),
    [
        (0, PT_RSVD),
        (MIB - PAGE, PT_RSVD),
        (MIB, PT_NDA),
        (PAMTS - PAGE, PT_NDA),
        (PAMTS, PT_RSVD),
        (3 * GIB - PAGE, PT_RSVD),
        (4 * GIB, PT_NDA),
        (5 * GIB - PAGE, PT_NDA),
    ],
)
def test_the_type_of_a_page(host: Host, pa: int, page_type: int) -> None:
    registers = host.succeed("TDH.PHYMEM.PAGE.RDMD", rcx=pa, rdx=7, r8=7, r9=7, r10=7, r11=7)
    assert (registers.rcx, registers.rdx, registers.r8) == (page_type, 0, 0)
    assert (registers.r9, registers.r10, registers.r11) == (0, 0, 0)


@pytest.mark.parametrize(
    ("pa", "status"),
    [
        (MIB + 8, INVALID),
        (MIB | 1, INVALID),  # the size of a 2 MiB page, which needs dynamic PAMT
        (MIB | 16 << 40, INVALID),
        (1 << 52, INVALID),
        (3 * GIB, NO_TDMR),
        (5 * GIB, NO_TDMR),
    ],
)
def test_what_is_no_page_of_a_tdmr(host: Host, pa: int, status: int) -> None:
    registers = host.call("TDH.PHYMEM.PAGE.RDMD", rcx=pa, rdx=7)
    assert (registers.rax, registers.rcx, registers.rdx) == (status, 0, 0)


def test_pages_can_be_asked_for_once_their_gib_is_initialized() -> None:
    host = Host.of(memory=4 * GIB)
    host.init()
    host.config()
    host.configure_keys()
    for _ in range(255):
        host.succeed("TDH.SYS.TDMR.INIT", rcx=0)
    assert host.status("TDH.PHYMEM.PAGE.RDMD", rcx=MIB) == NO_TDMR
    host.succeed("TDH.SYS.TDMR.INIT", rcx=0)
    host.succeed("TDH.PHYMEM.PAGE.RDMD", rcx=MIB)
    assert host.status("TDH.PHYMEM.PAGE.RDMD", rcx=GIB) == NO_TDMR


@pytest.mark.parametrize(
    ("pa", "status"), [(MIB, 0), (MIB | 16 << 40, 0), (PAMTS, INCORRECT), (MIB + 8, INVALID), (3 * GIB, NO_TDMR)]
)
def test_wbinvd_of_a_page(host: Host, pa: int, status: int) -> None:
    assert host.status("TDH.PHYMEM.PAGE.WBINVD", rcx=pa) == status


@pytest.mark.parametrize(
    ("command", "status"),
    [(0, "TDX_NO_HKID_READY_TO_WBCACHE"), (1, "TDX_WBCACHE_RESUME_ERROR"), (2, "TDX_OPERAND_INVALID")],
)
def test_cache_wb_has_nothing_to_do(host: Host, command: int, status: str) -> None:
    assert status_name(host.status("TDH.PHYMEM.CACHE.WB", rcx=command)) == status
