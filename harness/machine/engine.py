"""Engines: an accelerator together with the virtualization extension that the guest's KVM finds.

Adding one is one more row in `ENGINES`; nothing else in the harness knows them by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import UsageError
from harness.machine.registers import CpuRegisters
from harness.scenario.functions import Vendor


@dataclass(frozen=True)
class Extension:
    """A virtualization extension of x86: its KVM module, and the register bit that says it is on."""

    name: Vendor
    module: str
    register: str  # a field of CpuRegisters
    bit: int

    def on(self, registers: CpuRegisters) -> bool:
        """Whether the extension is enabled on that CPU."""
        value: int = getattr(registers, self.register)
        return bool(value >> self.bit & 1)


SVM = Extension("svm", module="kvm_amd", register="efer", bit=12)  # EFER.SVME, AMD APM vol. 2, 15.4
VMX = Extension("vmx", module="kvm_intel", register="cr4", bit=13)  # CR4.VMXE, Intel SDM vol. 3, 24.7


@dataclass(frozen=True)
class Engine:
    """One way of running guests."""

    name: str  # as scenarios and --engine have it
    extension: Extension
    accel: str  # -accel
    cpu: str  # -cpu
    host_flag: str = ""  # the flag of /proc/cpuinfo without which it cannot work
    known_to_linux: bool = True  # as a hypervisor, by its CPUID leaf 0x40000000

    @property
    def label(self) -> str:
        """The name that tells `kvm` on Intel from `kvm` on AMD."""
        return f"{self.name} ({self.extension.name})" if self.extension.name not in self.name else self.name


# In the order in which `auto` tries them: the real thing first.
ENGINES = (
    Engine("kvm", VMX, accel="kvm", cpu="host", host_flag="vmx"),
    Engine("kvm", SVM, accel="kvm", cpu="host", host_flag="svm"),
    # TCG emulates SVM by itself, and `max` has it. One thread per vCPU, so that CPUs race as they do in life.
    Engine("tcg-svm", SVM, accel="tcg,thread=multi", cpu="max", known_to_linux=False),
)
AUTO = "auto"
NAMES = tuple(dict.fromkeys(engine.name for engine in ENGINES))


def by_name(name: str, host_flags: frozenset[str]) -> Engine:
    """The engine called `name` on a host whose CPU has `host_flags` (/proc/cpuinfo).

    A host with neither VMX nor SVM gets the first `kvm`: it will not start, and QEMU's own words say why.
    Raises UsageError for a name that is not known.
    """
    rows = [engine for engine in ENGINES if engine.name == name]
    if not rows:
        raise UsageError(f"unknown engine {name!r}", expected=", ".join((*NAMES, AUTO)))
    return next((row for row in rows if row.host_flag in host_flags), rows[0])
