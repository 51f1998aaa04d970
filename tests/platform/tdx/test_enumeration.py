from __future__ import annotations

import pytest

from harness.platform.tdx import status_name
from harness.platform.tdx.fields import FIELDS, NO_FIELD
from harness.platform.tdx.layout import GIB, MIB
from tests.platform.tdx.host import Host

MAX_TDMRS = 0x9100000100000008
BUFFER = 0x40_0000
CMR_BUFFER = 0x40_1000


@pytest.fixture
def host() -> Host:
    host = Host.of(memory=4 * GIB)
    host.init()
    return host


def test_rd_gives_the_value_and_the_next_field(host: Host) -> None:
    registers = host.succeed("TDH.SYS.RD", rdx=MAX_TDMRS)
    assert (registers.r8, registers.rdx) == (64, MAX_TDMRS + 1)


def test_rd_of_the_last_field_has_no_next(host: Host) -> None:
    assert host.succeed("TDH.SYS.RD", rdx=FIELDS[-1].id).rdx == NO_FIELD


def test_rd_of_no_field_gives_the_first(host: Host) -> None:
    registers = host.call("TDH.SYS.RD", rdx=NO_FIELD, r8=5)
    assert status_name(registers.rax) == "TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT"
    assert (registers.rdx, registers.r8) == (FIELDS[0].id, 0)


def test_rd_that_fails_leaves_no_value(host: Host) -> None:
    registers = host.call("TDH.SYS.RD", rdx=0x92 << 56, r8=5)
    assert status_name(registers.rax) == "TDX_METADATA_FIELD_ID_INCORRECT"
    assert (registers.rdx, registers.r8) == (NO_FIELD, 0)


def test_rd_only_on_an_initialized_processor() -> None:
    host = Host.of()
    host.succeed("TDH.SYS.INIT")
    host.succeed("TDH.SYS.LP.INIT", 1)
    assert status_name(host.status("TDH.SYS.RD", 0, rdx=MAX_TDMRS)) == "TDX_SYS_LP_INIT_NOT_DONE"
    host.succeed("TDH.SYS.RD", 1, rdx=MAX_TDMRS)


def test_rdall_writes_a_list(host: Host) -> None:
    assert host.succeed("TDH.SYS.RDALL", rdx=BUFFER, r8=NO_FIELD).r8 == NO_FIELD
    header = host.ram.read(BUFFER, 8)
    assert header is not None and int.from_bytes(header[:2], "little") > 2000
    assert host.succeed("TDH.SYS.RDALL", rdx=BUFFER, r8=MAX_TDMRS).r8 == NO_FIELD


@pytest.mark.parametrize(
    ("operands", "status"),
    [
        ({"rdx": BUFFER + 512}, 0xC000010000000002),
        ({"rdx": 1 << 52}, 0xC000010000000002),
        ({"r8": 0x92 << 56}, 0xC0000C0000000000),
    ],
)
def test_operands_of_rdall(host: Host, operands: dict[str, int], status: int) -> None:
    registers = host.call("TDH.SYS.RDALL", **({"rdx": BUFFER, "r8": NO_FIELD} | operands))
    assert (registers.rax, registers.r8) == (status, NO_FIELD)


def test_info_writes_both_tables(host: Host) -> None:
    registers = host.succeed("TDH.SYS.INFO", rcx=BUFFER, rdx=1024, r8=CMR_BUFFER, r9=32)
    assert (registers.rdx, registers.r9) == (1024, 32)
    info, cmrs = host.ram.read(BUFFER, 1024), host.ram.read(CMR_BUFFER, 512)
    assert info is not None and cmrs is not None
    numbers = {offset: int.from_bytes(info[offset : offset + 2], "little") for offset in (4, 14, 16, 32, 34, 36, 48)}
    assert numbers == {4: 0x8086, 14: 5, 16: 1, 32: 64, 34: 16, 36: 16, 48: 16384}
    assert int.from_bytes(info[64:72], "little") == 1 << 28
    assert [int.from_bytes(cmrs[place : place + 8], "little") for place in range(0, 40, 8)] == [
        MIB,
        3 * GIB - MIB,
        4 * GIB,
        GIB,
        0,
    ]


@pytest.mark.parametrize(
    ("operands", "status"),
    [
        ({"rcx": BUFFER + 512}, 0xC000010000000001),
        ({"rdx": 1023}, 0xC000010000000002),
        ({"r8": CMR_BUFFER + 256}, 0xC000010000000008),
        ({"r9": 31}, 0xC000010000000009),
    ],
)
def test_operands_of_info(host: Host, operands: dict[str, int], status: int) -> None:
    registers = host.call("TDH.SYS.INFO", **({"rcx": BUFFER, "rdx": 1024, "r8": CMR_BUFFER, "r9": 32} | operands))
    assert (registers.rax, registers.rdx, registers.r9) == (status, 0, 0)
