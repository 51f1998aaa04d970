"""The leaves that tell what the module is: TDH.SYS.RD, TDH.SYS.RDALL, TDH.SYS.INFO.

Each names the file of src/vmm_dispatcher/api_calls that it follows.
"""

from __future__ import annotations

import struct

from harness.platform.tdx.call import Call, Outcome
from harness.platform.tdx.fields import NO_FIELD, is_null
from harness.platform.tdx.layout import KIB, MAX_CMRS, PAGE
from harness.platform.tdx.status import STATUS_CODES, Operand, refusal

_CMR = struct.Struct("<2Q")

# td_sys_info_t, include/tdx_api_defs.h: identification; memory at 32; control structures at 48; capabilities at 64.
_IDENTIFICATION = struct.Struct("<III HHH B13x")
_MEMORY = struct.Struct("<HHH10x")
_CONTROL = struct.Struct("<HHHB9x")
_CAPABILITIES = struct.Struct("<4Q")
_INFO_SIZE = KIB


def sys_rd(call: Call) -> Outcome:
    """TDH.SYS.RD (tdh_sys_rd.c): RDX is a field's id; R8 becomes its value and RDX the next id."""
    _check_lp(call)
    field_id = call.registers.rdx
    if is_null(field_id):
        return Outcome(STATUS_CODES["TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT"], {"rdx": call.metadata.first()})
    value = call.metadata.read(field_id)
    return Outcome(outputs={"rdx": call.metadata.after(field_id), "r8": value})


def sys_rdall(call: Call) -> Outcome:
    """TDH.SYS.RDALL (tdh_sys_rdall.c): RDX -> a page for a metadata list that begins with the field in R8."""
    _check_lp(call)
    call.check_shared(call.registers.rdx, PAGE, Operand.RDX)
    listed, following = call.metadata.list_from(call.registers.r8, PAGE)
    call.write(call.registers.rdx, listed)
    status = "TDX_SUCCESS" if following == NO_FIELD else "TDX_METADATA_LIST_OVERFLOW"
    return Outcome(STATUS_CODES[status], {"r8": following})


def sys_info(call: Call) -> Outcome:
    """TDH.SYS.INFO (tdh_sys_info.c): RCX -> TDSYSINFO_STRUCT of RDX bytes; R8 -> CMR_INFO array of R9 entries."""
    _check_lp(call)
    registers = call.registers
    call.check_shared(registers.rcx, KIB, Operand.RCX)
    if registers.rdx < _INFO_SIZE:
        raise refusal("TDX_OPERAND_INVALID", Operand.RDX)
    call.check_shared(registers.r8, MAX_CMRS * _CMR.size, Operand.R8)
    if registers.r9 < MAX_CMRS:
        raise refusal("TDX_OPERAND_INVALID", Operand.R9)
    cmrs = [*call.layout.cmrs, *[(0, 0)] * MAX_CMRS][:MAX_CMRS]
    call.write(registers.rcx, _info(call))
    call.write(registers.r8, b"".join(_CMR.pack(*cmr) for cmr in cmrs))
    return Outcome(outputs={"rdx": _INFO_SIZE, "r9": MAX_CMRS})


def _check_lp(call: Call) -> None:
    if call.lp not in call.state.lps:
        raise refusal("TDX_SYS_LP_INIT_NOT_DONE")


def _info(call: Call) -> bytes:
    fields = call.metadata
    identification = _IDENTIFICATION.pack(
        fields["SYS_ATTRIBUTES"],
        fields["VENDOR_ID"],
        fields["BUILD_DATE"],
        fields["BUILD_NUM"],
        fields["MINOR_VERSION"],
        fields["MAJOR_VERSION"],
        1,  # SYS_RD: the host should use TDH.SYS.RD
    )
    memory = _MEMORY.pack(fields["MAX_TDMRS"], fields["MAX_RESERVED_PER_TDMR"], fields["PAMT_4K_ENTRY_SIZE"])
    control = _CONTROL.pack(fields["TDCS_BASE_SIZE"], 0, fields["TDVPS_BASE_SIZE"], 0)
    capabilities = _CAPABILITIES.pack(
        fields["ATTRIBUTES_FIXED0"], fields["ATTRIBUTES_FIXED1"], fields["XFAM_FIXED0"], fields["XFAM_FIXED1"]
    )
    known = identification + memory + control + capabilities
    return known.ljust(_INFO_SIZE, b"\0")  # the list of configurable CPUID leaves is empty
