"""The leaves that work on physical pages: TDH.PHYMEM.PAGE.RDMD, TDH.PHYMEM.PAGE.WBINVD, TDH.PHYMEM.CACHE.WB.

There are no TDs, so a page is either reserved or not used by the module (page_type_t, pamt_manager.h). The PAMT
itself is not written: only the module could read it, because it is encrypted with the global KeyID.
"""

from __future__ import annotations

from harness.platform.tdx.call import Call, Outcome
from harness.platform.tdx.layout import PAGE
from harness.platform.tdx.status import Operand, refusal
from harness.platform.tdx.tdmr import PT_4KB

PT_NDA = 0  # not directly assigned: not used by the module
PT_RSVD = 1  # reserved for use outside TDX
_CACHE_WB_START, _CACHE_WB_RESUME = 0, 1


def page_rdmd(call: Call) -> Outcome:
    """TDH.PHYMEM.PAGE.RDMD (tdh_phymem_page_rdmd.c): RCX is a page; RCX becomes its type, R8 its size."""
    # Bits 2:0 are a size, which must be that of 4 KiB without dynamic PAMT, so the address is simply page-aligned.
    return Outcome(outputs={"rcx": _page_type(call, call.registers.rcx), "r8": PT_4KB})


def page_wbinvd(call: Call) -> Outcome:
    """TDH.PHYMEM.PAGE.WBINVD (tdh_phymem_page_wbinvd.c): RCX is a page, with any KeyID, that TDX does not use."""
    if _page_type(call, call.without_keyid(call.registers.rcx)) != PT_NDA:
        raise refusal("TDX_PAGE_METADATA_INCORRECT", Operand.RCX)
    return Outcome()


def cache_wb(call: Call) -> Outcome:
    """TDH.PHYMEM.CACHE.WB (tdh_phymem_cache_wb.c): without TDs, no KeyID ever waits for it."""
    command = call.registers.rcx
    if command == _CACHE_WB_START:
        raise refusal("TDX_NO_HKID_READY_TO_WBCACHE")
    if command == _CACHE_WB_RESUME:
        raise refusal("TDX_WBCACHE_RESUME_ERROR")
    raise refusal("TDX_OPERAND_INVALID", Operand.RCX)


def _page_type(call: Call, pa: int) -> int:
    """pamt_get_block and pamt_walk of pamt_manager.c. Raises Refused if no initialized GiB of a TDMR has the page."""
    if pa % PAGE or not call.addressable(pa):
        raise refusal("TDX_OPERAND_INVALID", Operand.RCX)
    tdmr = call.state.tdmr_at(pa)
    if tdmr is None or pa >= tdmr.usable_to:
        raise refusal("TDX_OPERAND_ADDR_RANGE_ERROR", Operand.RCX)
    return PT_RSVD if tdmr.info.is_reserved(pa) else PT_NDA
