"""The leaves that change the module's state, from TDH.SYS.INIT to TDH.SYS.DISABLE.

Each names the file of src/vmm_dispatcher/api_calls that it follows; what those check of the platform (MSRs, CPUID,
SMRRs, SEAM capabilities) is left to the platform here, which is right by construction, and to fault rules.
"""

from __future__ import annotations

from harness.platform.tdx.call import Call, Outcome
from harness.platform.tdx.layout import GIB, PAGE
from harness.platform.tdx.state import SysState, Tdmr
from harness.platform.tdx.status import Operand, refusal
from harness.platform.tdx.tdmr import Candidate, Limits, TdmrInfo, check_tdmr, info_size

_ALIGNMENT = 512  # TDMR_INFO_ENTRY_PTR_ARRAY_ALIGNMENT: of the array of addresses, and of each TDMR_INFO
_MAX_KEYIDS = 2048  # MAX_HKIDS, tdx_global_data.h
_KEYID = 0xFFFF  # sys_config_options_t; above it dynamic PAMT, which the model has not, and reserved bits


def sys_init(call: Call) -> Outcome:
    """TDH.SYS.INIT (tdh_sys_init.c), version 0: RCX is reserved; only once."""
    if call.registers.rcx:
        raise refusal("TDX_OPERAND_INVALID", Operand.RCX)
    if call.state.sys not in (SysState.INIT_PENDING, SysState.DISABLED):
        raise refusal("TDX_SYS_INIT_NOT_PENDING")
    if call.config.private_keyid_range.stop > _MAX_KEYIDS:
        raise refusal("TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED", _MAX_KEYIDS)
    call.state.sys = SysState.INIT_DONE
    return Outcome()


def sys_lp_init(call: Call) -> Outcome:
    """TDH.SYS.LP.INIT (tdh_sys_lp_init.c): on every processor once, and never after TDH.SYS.CONFIG."""
    if call.state.sys is not SysState.INIT_DONE:
        raise refusal("TDX_SYS_LP_INIT_NOT_PENDING")
    if call.lp in call.state.lps:
        raise refusal("TDX_SYS_LP_INIT_DONE")
    call.state.lps.append(call.lp)
    return Outcome()


def sys_config(call: Call) -> Outcome:
    """TDH.SYS.CONFIG (tdh_sys_config.c): RCX -> array of RDX addresses of TDMR_INFO; R8 is the global KeyID.

    Only when every processor that firmware found is initialized.
    """
    state, registers = call.state, call.registers
    if state.sys is not SysState.INIT_DONE or len(state.lps) < len(call.layout.packages):
        raise refusal("TDX_SYS_CONFIG_NOT_PENDING")
    call.check_shared(registers.rcx, _ALIGNMENT, Operand.RCX)
    if not 1 <= registers.rdx <= call.metadata["MAX_TDMRS"]:
        raise refusal("TDX_OPERAND_INVALID", Operand.RDX)
    if registers.r8 & ~_KEYID or registers.r8 not in call.config.private_keyid_range:
        raise refusal("TDX_OPERAND_INVALID", Operand.R8)
    state.tdmrs = [Tdmr(info, initialized_to=info.base) for info in _checked_tdmrs(call)]
    state.keyid = registers.r8
    state.sys = SysState.CONFIG_DONE
    return Outcome()


def sys_key_config(call: Call) -> Outcome:
    """TDH.SYS.KEY.CONFIG (tdh_sys_key_config.c): on one processor of every package, once."""
    state = call.state
    if state.sys is not SysState.CONFIG_DONE:
        raise refusal("TDX_SYS_KEY_CONFIG_NOT_PENDING")
    if call.package in state.packages:
        raise refusal("TDX_KEY_CONFIGURED")
    state.packages.append(call.package)
    if len(state.packages) == call.layout.package_count:
        state.sys = SysState.READY
    return Outcome()


def sys_tdmr_init(call: Call) -> Outcome:
    """TDH.SYS.TDMR.INIT (tdh_sys_tdmr_init.c): RCX is a TDMR's base; RDX becomes the address up to which whole GiB
    are initialized. Each call initializes `pamt_entries_per_call` entries of the 4K PAMT.
    """
    base = call.registers.rcx
    tdmr = next((tdmr for tdmr in call.state.tdmrs if tdmr.info.base == base), None)
    if base % GIB or not call.addressable(base) or tdmr is None:
        raise refusal("TDX_OPERAND_INVALID", Operand.RCX)
    if tdmr.is_initialized:
        raise refusal("TDX_TDMR_ALREADY_INITIALIZED")
    tdmr.initialized_to += call.config.pamt_entries_per_call * PAGE
    return Outcome(outputs={"rdx": tdmr.usable_to})


def sys_lp_shutdown(call: Call) -> Outcome:
    """TDH.SYS.LP.SHUTDOWN (tdh_sys_lp_shutdown.c): deprecated, does nothing."""
    return Outcome()


def sys_shutdown(call: Call) -> Outcome:
    """TDH.SYS.SHUTDOWN (tdh_sys_shutdown.c): RCX is the hand-off version; no leaf works from then on."""
    if not call.metadata["MIN_UPDATE_HV"] <= call.registers.rcx <= call.metadata["MODULE_HV"]:
        raise refusal("TDX_OPERAND_INVALID", Operand.RCX)
    call.state.sys = SysState.SHUTDOWN
    return Outcome()


def sys_update(call: Call) -> Outcome:
    """TDH.SYS.UPDATE (tdh_sys_update.c). Nothing was ever handed over: that takes a P-SEAMLDR and a second module."""
    if call.state.sys is not SysState.INIT_DONE or len(call.state.lps) < len(call.layout.packages):
        raise refusal("TDX_SYS_STATE_INCORRECT")
    raise refusal("TDX_SYS_INVALID_HANDOFF")


def sys_disable(call: Call) -> Outcome:
    """TDH.SYS.DISABLE: the module gives up all memory and is as after power-on, for a next kernel to initialize.

    Newer than the published source; from the commit message and comment of tdx_sys_disable() in Linux 7.3's
    arch/x86/virt/vmx/tdx/tdx.c. That it may be called in every state but shutdown is an assumption.
    """
    call.state.disable()
    return Outcome()


def _checked_tdmrs(call: Call) -> list[TdmrInfo]:
    """Reads the array and every TDMR_INFO, checking each before the next is read."""
    limits = Limits(
        call.layout.cmrs,
        call.config.keyid_start_bit,
        (
            call.metadata["PAMT_4K_ENTRY_SIZE"],
            call.metadata["PAMT_2M_ENTRY_SIZE"],
            call.metadata["PAMT_1G_ENTRY_SIZE"],
        ),
    )
    length = info_size(call.metadata["MAX_RESERVED_PER_TDMR"])
    array = call.read(call.registers.rcx, 8 * call.registers.rdx)
    tdmrs: list[TdmrInfo] = []
    for place in range(0, len(array), 8):
        pa = int.from_bytes(array[place : place + 8], "little")
        call.check_shared(pa, _ALIGNMENT, Operand.RCX)
        tdmr = TdmrInfo.parse(call.read(pa, length))
        check_tdmr(Candidate(tdmrs, tdmr, limits))
        tdmrs.append(tdmr)
    return tdmrs
