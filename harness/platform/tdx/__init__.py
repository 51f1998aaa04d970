"""A model of the TDX module, as far as a host brings it up: no TDs.

The reference is Intel's published source of the real module (github.com/intel/tdx-module, MIT; paths in this package
are relative to it) and, where that is older than the kernel, what Linux 7.3 expects (arch/x86/virt/vmx/tdx).

    seamcall   one call: registers, outcome, memory
    leaves, status, fields          names and numbers: interface functions, completion statuses, metadata fields
    layout     processors, packages and convertible memory
    config     which module it is, and what goes wrong with it
    metadata   what TDH.SYS.RD reads
    tdmr       TDMR_INFO and its checks
    state      what the module remembers
    call       one call, as a handler sees it
    bringup, enumeration, phymem    the handlers
    module     the dispatcher; answers SEAMCALLs
"""

from harness.platform.tdx.config import FaultRule, ModuleConfig
from harness.platform.tdx.layout import Layout, pc_cmrs
from harness.platform.tdx.leaves import leaf_name
from harness.platform.tdx.module import TdxModule
from harness.platform.tdx.seamcall import Completion, Done, Fault, Memory, Registers, VmFailInvalid
from harness.platform.tdx.status import parse_status, status_name, status_text

__all__ = [
    "Completion",
    "Done",
    "Fault",
    "FaultRule",
    "Layout",
    "Memory",
    "ModuleConfig",
    "Registers",
    "TdxModule",
    "VmFailInvalid",
    "leaf_name",
    "parse_status",
    "pc_cmrs",
    "status_name",
    "status_text",
]
