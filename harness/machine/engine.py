"""Engines: an accelerator together with the virtualization extension that the guest's KVM finds.

Adding one is one more row in `ENGINES`; nothing else in the harness knows them by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import UsageError
from harness.machine.registers import CpuRegisters
from harness.scenario.functions import Vendor
from harness.scenario.machine import CpuSection, MachineSection


@dataclass(frozen=True)
class Extension:
    """A virtualization extension of x86: its KVM module, and the register bit that says it is on."""

    name: Vendor
    module: str
    register: str  # a field of CpuRegisters
    bit: int
    cpuid: tuple[int, int]  # the leaf, and the bit of ECX, that say that a CPU has it
    vendors: tuple[str, ...]  # vendor_id of /proc/cpuinfo: whose CPUs have it

    def on(self, registers: CpuRegisters) -> bool:
        """Whether the extension is enabled on that CPU."""
        value: int = getattr(registers, self.register)
        return bool(value >> self.bit & 1)


# EFER.SVME: AMD APM vol. 2, 15.4; CR4.VMXE: Intel SDM vol. 3, 24.7.
SVM = Extension(
    "svm", module="kvm_amd", register="efer", bit=12, cpuid=(0x8000_0001, 2), vendors=("AuthenticAMD", "HygonGenuine")
)
VMX = Extension("vmx", module="kvm_intel", register="cr4", bit=13, cpuid=(1, 5), vendors=("GenuineIntel",))


# The CPU models of scenarios as QEMU has them for KVM on Intel; it has no Emerald Rapids. The versions stand still,
# while a name without one may mean another CPU in another QEMU. They have VMX's capabilities, and not VMX itself.
QEMU_MODELS: Mapping[str, str] = {"sapphirerapids": "SapphireRapids-v1", "graniterapids": "GraniteRapids-v1"}


@dataclass(frozen=True)
class Engine:
    """One way of running guests."""

    name: str  # as scenarios and --engine have it
    extension: Extension
    accel: str  # -accel
    cpu: str  # -cpu
    on_host: bool = False  # the guest's extension is the host CPU's, nested
    proof_s: float = 120.0  # for a boot that proves it; one that works takes a tenth of that on an idle machine
    known_to_linux: bool = True  # as a hypervisor, by its CPUID leaf 0x40000000
    emulated: bool = False  # VMX and TDX by the emulated platform (harness/platform), which QEMU runs as a TCG plugin

    def suits(self, cpu_vendor: str) -> bool:
        """Whether a host CPU of that vendor can have what the engine needs."""
        return not self.on_host or cpu_vendor in self.extension.vendors

    def lacks(self, machine: MachineSection) -> str:
        """What `machine` asks for and this engine does not have: "VMX", "a TDX module"; empty when it has all."""
        if machine.virt not in ("any", self.extension.name):
            return machine.virt.upper()
        if machine.tdx is not None and not self.emulated:
            return "a TDX module"
        if machine.cpu is None or self.emulated:
            return ""
        if machine.cpu != CpuSection(model=machine.cpu.model):
            return "CPUs that can be broken (`cpu:` with more than a model)"
        return "" if self._chooses(machine.cpu.model) else f"CPUs of the model {machine.cpu.model}"

    def qemu_cpu(self, model: str) -> tuple[str, ...]:
        """QEMU's CPU model, and its properties: for a `model` of a scenario that can be chosen, else the engine's."""
        return (QEMU_MODELS[model], f"{self.extension.name}=on") if self._chooses(model) else (self.cpu,)

    def _chooses(self, model: str) -> bool:
        """Whether the CPUs can be of that model; with QEMU's own SVM they cannot, and `host` is what the host has."""
        return self.on_host and self.extension is VMX and model in QEMU_MODELS

    @property
    def label(self) -> str:
        """The name that tells `kvm` on Intel from `kvm` on AMD."""
        return f"{self.name} ({self.extension.name})" if self.extension.name not in self.name else self.name


# In the order in which `auto` tries them: the real thing first.
ENGINES = (
    Engine("kvm", VMX, accel="kvm", cpu="host", on_host=True, proof_s=60.0),
    Engine("kvm", SVM, accel="kvm", cpu="host", on_host=True, proof_s=60.0),
    # TCG emulates SVM by itself, and `max` has it. One thread per vCPU, so that CPUs race as they do in life.
    Engine("tcg-svm", SVM, accel="tcg,thread=multi", cpu="max", known_to_linux=False),
    # What TCG does not have of VMX, the emulated platform adds.
    Engine("tcg-vmx", VMX, accel="tcg,thread=multi", cpu="max", known_to_linux=False, emulated=True),
)
AUTO = "auto"
NAMES = tuple(dict.fromkeys(engine.name for engine in ENGINES))


def by_name(name: str, cpu_vendor: str) -> Engine:
    """The engine called `name` on a host whose CPU is of `cpu_vendor` (vendor_id of /proc/cpuinfo).

    Raises UsageError for a name that is not known.
    """
    rows = [engine for engine in ENGINES if engine.name == name]
    if not rows:
        raise UsageError(f"unknown engine {name!r}", expected=", ".join((*NAMES, AUTO)))
    return next((row for row in rows if row.suits(cpu_vendor)), rows[0])
