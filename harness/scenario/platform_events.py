"""What the emulated platform sees by itself: events that a scenario may name without a `trace` entry.

They are instructions and resets, not functions: `point` events, complete from the kernel's first instruction to its
last, on every engine that has the platform. Their arguments are those that selectors and `arguments` may compare.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    "cr4": ("old", "new"),
    "rdmsr": ("msr", "value"),
    "wrmsr": ("msr", "value"),
    # `leaf` and `status` by name: TDH.SYS.INIT, TDX_SUCCESS.
    "seamcall": ("leaf", "status", *_SEAMCALL_REGISTERS, *(f"out_{name}" for name in _SEAMCALL_REGISTERS)),
    "seamret_fault": (),
    "movdir64b": ("pa",),
    "cpu_reset": (),
    "sipi": ("vector",),
    "init_blocked": (),  # an INIT that a CPU in VMX operation would have ignored
    "fault": ("instruction",),
    "not_emulated": ("instruction",),
}
