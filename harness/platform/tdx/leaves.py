"""The module's interface functions, by number and by name.

Numbers: seamcall_leaf_opcode_t in include/tdx_api_defs.h of intel/tdx-module; 69 is newer than that source and
comes from Linux 7.3 (arch/x86/virt/vmx/tdx/tdx.h). RAX holds the leaf in bits 15:0 and its version in bits 23:16;
bit 63 chooses the P-SEAMLDR instead of the module (arch/x86/virt/vmx/tdx/seamldr.c).
"""

from __future__ import annotations

import difflib

from harness.errors import UsageError

SEAMLDR = 1 << 63

SYS_KEY_CONFIG = 31
SYS_INFO = 32
SYS_INIT = 33
SYS_RD = 34
SYS_LP_INIT = 35
SYS_TDMR_INIT = 36
SYS_RDALL = 37
PHYMEM_PAGE_RDMD = 24
PHYMEM_CACHE_WB = 40
PHYMEM_PAGE_WBINVD = 41
SYS_LP_SHUTDOWN = 44
SYS_CONFIG = 45
SYS_SHUTDOWN = 52
SYS_UPDATE = 53
SYS_DISABLE = 69

LEAF_NAMES: dict[int, str] = {
    0: "TDH.VP.ENTER",
    1: "TDH.MNG.ADDCX",
    2: "TDH.MEM.PAGE.ADD",
    3: "TDH.MEM.SEPT.ADD",
    4: "TDH.VP.ADDCX",
    5: "TDH.MEM.PAGE.RELOCATE",
    6: "TDH.MEM.PAGE.AUG",
    7: "TDH.MEM.RANGE.BLOCK",
    8: "TDH.MNG.KEY.CONFIG",
    9: "TDH.MNG.CREATE",
    10: "TDH.VP.CREATE",
    11: "TDH.MNG.RD",
    12: "TDH.MEM.RD",
    13: "TDH.MNG.WR",
    14: "TDH.MEM.WR",
    15: "TDH.MEM.PAGE.DEMOTE",
    16: "TDH.MR.EXTEND",
    17: "TDH.MR.FINALIZE",
    18: "TDH.VP.FLUSH",
    19: "TDH.MNG.VPFLUSHDONE",
    20: "TDH.MNG.KEY.FREEID",
    21: "TDH.MNG.INIT",
    22: "TDH.VP.INIT",
    23: "TDH.MEM.PAGE.PROMOTE",
    PHYMEM_PAGE_RDMD: "TDH.PHYMEM.PAGE.RDMD",
    25: "TDH.MEM.SEPT.RD",
    26: "TDH.VP.RD",
    27: "TDH.MNG.KEY.RECLAIMID",
    28: "TDH.PHYMEM.PAGE.RECLAIM",
    29: "TDH.MEM.PAGE.REMOVE",
    30: "TDH.MEM.SEPT.REMOVE",
    SYS_KEY_CONFIG: "TDH.SYS.KEY.CONFIG",
    SYS_INFO: "TDH.SYS.INFO",
    SYS_INIT: "TDH.SYS.INIT",
    SYS_RD: "TDH.SYS.RD",
    SYS_LP_INIT: "TDH.SYS.LP.INIT",
    SYS_TDMR_INIT: "TDH.SYS.TDMR.INIT",
    SYS_RDALL: "TDH.SYS.RDALL",
    38: "TDH.MEM.TRACK",
    39: "TDH.MEM.RANGE.UNBLOCK",
    PHYMEM_CACHE_WB: "TDH.PHYMEM.CACHE.WB",
    PHYMEM_PAGE_WBINVD: "TDH.PHYMEM.PAGE.WBINVD",
    42: "TDH.MEM.SEPT.WR",
    43: "TDH.VP.WR",
    SYS_LP_SHUTDOWN: "TDH.SYS.LP.SHUTDOWN",
    SYS_CONFIG: "TDH.SYS.CONFIG",
    48: "TDH.SERVTD.BIND",
    49: "TDH.SERVTD.PREBIND",
    SYS_SHUTDOWN: "TDH.SYS.SHUTDOWN",
    SYS_UPDATE: "TDH.SYS.UPDATE",
    58: "TDH.PHYMEM.PAMT.ADD",
    59: "TDH.PHYMEM.PAMT.REMOVE",
    64: "TDH.EXPORT.ABORT",
    65: "TDH.EXPORT.BLOCKW",
    66: "TDH.EXPORT.RESTORE",
    68: "TDH.EXPORT.MEM",
    SYS_DISABLE: "TDH.SYS.DISABLE",
    70: "TDH.EXPORT.PAUSE",
    71: "TDH.EXPORT.TRACK",
    72: "TDH.EXPORT.STATE.IMMUTABLE",
    73: "TDH.EXPORT.STATE.TD",
    74: "TDH.EXPORT.STATE.VP",
    75: "TDH.EXPORT.UNBLOCKW",
    80: "TDH.IMPORT.ABORT",
    81: "TDH.IMPORT.END",
    82: "TDH.IMPORT.COMMIT",
    83: "TDH.IMPORT.MEM",
    84: "TDH.IMPORT.TRACK",
    85: "TDH.IMPORT.STATE.IMMUTABLE",
    86: "TDH.IMPORT.STATE.TD",
    87: "TDH.IMPORT.STATE.VP",
    96: "TDH.MIG.STREAM.CREATE",
}
LEAF_NUMBERS: dict[str, int] = {name: number for number, name in LEAF_NAMES.items()}

SEAMLDR_NAMES: dict[int, str] = {0: "SEAMLDR.INFO", 1: "SEAMLDR.INSTALL"}


def leaf_name(rax: int) -> str:
    """What RAX asks for: "TDH.SYS.INIT", "SEAMLDR.INFO"; an unknown leaf as "TDH.#200"."""
    if rax & SEAMLDR:
        number = rax & ~SEAMLDR
        return SEAMLDR_NAMES.get(number, f"SEAMLDR.#{number}")
    number = rax & 0xFFFF
    return LEAF_NAMES.get(number, f"TDH.#{number}")


def parse_leaf(name_or_number: str | int) -> int:
    """The number of a leaf given as "TDH.SYS.INIT", "TDH_SYS_INIT" or 33. UsageError for any other text."""
    if isinstance(name_or_number, int):
        if not 0 <= name_or_number <= 0xFFFF:
            raise UsageError("no such SEAMCALL leaf", expected="0..65535", found=str(name_or_number))
        return name_or_number
    number = LEAF_NUMBERS.get(name_or_number.upper().replace("_", "."))
    if number is None:
        raise UsageError(
            f"unknown SEAMCALL leaf {name_or_number!r}",
            expected="a name such as TDH.SYS.INIT, or the leaf's number",
            hint=_nearest(name_or_number),
        )
    return number


def _nearest(name: str) -> str:
    return ", ".join(difflib.get_close_matches(name.upper(), LEAF_NUMBERS)) or "TDH.SYS.INIT"
