from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.platform.tdx import leaf_name
from harness.platform.tdx.leaves import LEAF_NAMES, LEAF_NUMBERS, parse_leaf

# arch/x86/virt/vmx/tdx/tdx.h of Linux 7.3
LINUX = {
    0: "TDH.VP.ENTER",
    1: "TDH.MNG.ADDCX",
    2: "TDH.MEM.PAGE.ADD",
    3: "TDH.MEM.SEPT.ADD",
    4: "TDH.VP.ADDCX",
    6: "TDH.MEM.PAGE.AUG",
    7: "TDH.MEM.RANGE.BLOCK",
    8: "TDH.MNG.KEY.CONFIG",
    9: "TDH.MNG.CREATE",
    10: "TDH.VP.CREATE",
    11: "TDH.MNG.RD",
    16: "TDH.MR.EXTEND",
    17: "TDH.MR.FINALIZE",
    18: "TDH.VP.FLUSH",
    19: "TDH.MNG.VPFLUSHDONE",
    20: "TDH.MNG.KEY.FREEID",
    21: "TDH.MNG.INIT",
    22: "TDH.VP.INIT",
    24: "TDH.PHYMEM.PAGE.RDMD",
    26: "TDH.VP.RD",
    28: "TDH.PHYMEM.PAGE.RECLAIM",
    29: "TDH.MEM.PAGE.REMOVE",
    31: "TDH.SYS.KEY.CONFIG",
    33: "TDH.SYS.INIT",
    34: "TDH.SYS.RD",
    35: "TDH.SYS.LP.INIT",
    36: "TDH.SYS.TDMR.INIT",
    38: "TDH.MEM.TRACK",
    40: "TDH.PHYMEM.CACHE.WB",
    41: "TDH.PHYMEM.PAGE.WBINVD",
    43: "TDH.VP.WR",
    45: "TDH.SYS.CONFIG",
    52: "TDH.SYS.SHUTDOWN",
    53: "TDH.SYS.UPDATE",
    69: "TDH.SYS.DISABLE",
}


@pytest.mark.parametrize("number", LINUX)
def test_names_agree_with_linux(number: int) -> None:
    assert leaf_name(number) == LINUX[number]


def test_a_version_does_not_change_the_name() -> None:
    assert leaf_name(1 << 16 | 33) == "TDH.SYS.INIT"


def test_bit_63_is_the_p_seamldr() -> None:
    assert leaf_name(0x8000_0000_0000_0000) == "SEAMLDR.INFO"
    assert leaf_name(0x8000_0000_0000_0007) == "SEAMLDR.#7"


def test_an_unknown_leaf_keeps_its_number() -> None:
    assert leaf_name(200) == "TDH.#200"


@pytest.mark.parametrize("name", LEAF_NUMBERS)
def test_parse_leaf_is_the_inverse_of_leaf_name(name: str) -> None:
    assert leaf_name(parse_leaf(name)) == name


def test_parse_leaf_takes_the_kernels_spelling_and_numbers() -> None:
    assert parse_leaf("TDH_SYS_LP_INIT") == parse_leaf("tdh.sys.lp.init") == parse_leaf(35) == 35


@pytest.mark.parametrize("wrong", ["TDH.SYS.LPINIT", "33", "", -1, 1 << 16])
def test_parse_leaf_refuses(wrong: str | int) -> None:
    with pytest.raises(UsageError):
        parse_leaf(wrong)


def test_no_two_leaves_share_a_name() -> None:
    assert len(LEAF_NUMBERS) == len(LEAF_NAMES)
