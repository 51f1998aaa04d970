"""Functions that have one name in scenarios and another one in this or that kernel.

Only renames and the vendor twins stand here; a function that is absent from the table is what it says.
Sources: `nm` on the modules of Debian 6.1.192, 6.12.95 and 7.3.4, and their vmlinux's kallsyms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.scenario.kinds import KernelRange

Vendor = Literal["svm", "vmx"]


@dataclass(frozen=True)
class RealName:
    """The symbol that stands behind a scenario's name on some kernels, for one vendor or for both."""

    kernels: KernelRange
    symbol: str
    vendor: Vendor | None = None


def _names(*rows: tuple[str, str] | tuple[str, str, Vendor]) -> tuple[RealName, ...]:
    return tuple(RealName(KernelRange(row[0]), row[1], row[2] if len(row) == 3 else None) for row in rows)


REAL_NAMES: dict[str, tuple[RealName, ...]] = {
    # 7.3 gave syscore ops a context argument and the functions a new name.
    "register_syscore": _names(("<7.3", "register_syscore_ops"), (">=7.3", "register_syscore")),
    "unregister_syscore": _names(("<7.3", "unregister_syscore_ops"), (">=7.3", "unregister_syscore")),
    # 6.12 renamed hardware_enable to enable_virtualization_cpu throughout.
    "vendor_enable": _names(
        ("<6.12", "svm_hardware_enable", "svm"),
        (">=6.12", "svm_enable_virtualization_cpu", "svm"),
        ("<6.12", "vmx_hardware_enable", "vmx"),
        (">=6.12", "vmx_enable_virtualization_cpu", "vmx"),
    ),
    "vendor_disable": _names(
        ("<6.12", "svm_hardware_disable", "svm"),
        (">=6.12", "svm_disable_virtualization_cpu", "svm"),
        ("<6.12", "vmx_hardware_disable", "vmx"),
        (">=6.12", "vmx_disable_virtualization_cpu", "vmx"),
    ),
    "vendor_compat": _names(("", "svm_check_processor_compat", "svm"), ("", "vmx_check_processor_compat", "vmx")),
    # 7.3 moved the emergency callback from reboot.c to the core's own virtualization code. 6.1 has it for VMX only.
    "register_emergency_callback": _names(
        (">=6.12,<7.3", "cpu_emergency_register_virt_callback"), (">=7.3", "x86_virt_register_emergency_callback")
    ),
    "unregister_emergency_callback": _names(
        (">=6.12,<7.3", "cpu_emergency_unregister_virt_callback"), (">=7.3", "x86_virt_unregister_emergency_callback")
    ),
}


def real_name(name: str, version: str, vendor: Vendor) -> str | None:
    """The symbol behind `name` on a kernel `version` (6.12.95); None when this kernel has no such function."""
    rows = REAL_NAMES.get(name)
    if rows is None:
        return name
    for row in rows:
        if row.kernels.contains(version) and row.vendor in (None, vendor):
            return row.symbol
    return None
