"""What the emulated platform sees by itself: events that a scenario may name without a `trace` entry.

They are instructions and resets, not functions: `point` events, complete from x86_64_start_kernel(), the first C
function of a kernel, to its last instruction, on every engine that has the platform. Their arguments are those that
selectors and `arguments` may compare.
"""

from __future__ import annotations

from collections.abc import Mapping

SOURCE = "platform"  # the source of an event (harness/probes/event.py) that comes from there

# Carried by an instruction that failed: the exception (UD, GP), or what VMX says without one ("invalid", or the
# VM-instruction error number, Intel SDM vol. 3, 32.4).
FAILURES = ("fault", "vmfail")

_SEAMCALL_REGISTERS = ("rcx", "rdx", "r8", "r9", "r10", "r11")

# Event -> its arguments, FAILURES left out.
PLATFORM_EVENTS: Mapping[str, tuple[str, ...]] = {
    "vmxon": ("pa",),
    "vmxoff": (),
    "vmclear": ("pa",),
    "vmptrld": ("pa",),
    "vmptrst": ("pa",),
    "vmread": ("field", "value"),
    "vmwrite": ("field", "value"),
    "vmlaunch": (),
    "vmresume": (),
    "invept": ("type",),
    "invvpid": ("type",),
    "vmcall": (),
    "cr4": ("old", "new"),  # a write that changes VMXE, or fails because of it
    "cr0": ("old", "new"),  # a write that fails in VMX operation
    "wrmsr": ("msr", "value", "dropped"),  # to FEAT_CTL, a VMX capability or the KeyIDs' partitioning
    # `leaf` and `status` by name: TDH.SYS.INIT, TDX_SUCCESS.
    "seamcall": ("leaf", "status", *_SEAMCALL_REGISTERS, *(f"out_{name}" for name in _SEAMCALL_REGISTERS)),
    "seamret_fault": ("insn",),  # SEAMRET, SEAMOPS or TDCALL outside of SEAM
    "movdir64b": ("va",),
    # `root`: whether the CPU was in VMX operation until then.
    "cpu_reset": ("root",),
    "sipi": ("root",),
    "init_blocked": ("root",),  # an INIT that a CPU in VMX operation would have ignored
    "not_emulated": ("what", "pc"),
}
