"""What a machine asks of the emulated platform, as frozen data."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from harness.platform.cpu import FEAT_CTL, FEAT_CTL_LOCKED, KEYID_PARTITIONING, CpuConfig, Msr
from harness.platform.tdx import ModuleConfig


@dataclass(frozen=True)
class PlatformConfig:
    """The CPUs, and the TDX module where the platform has one."""

    cpu: CpuConfig = field(default_factory=CpuConfig)
    tdx: ModuleConfig | None = None

    def msrs(self) -> list[Msr]:
        """Every MSR that the plugin emulates, with its value at power-on; later entries override earlier ones."""
        msrs = [*self.cpu.msrs()]
        if self.tdx is not None:
            msrs.append(Msr(None, KEYID_PARTITIONING, self.tdx.keyid_partitioning))
        return msrs

    def setup(self, without_vmx: Collection[int] = ()) -> list[str]:
        """The commands that tell the plugin; the TDX module is not in QEMU, but at the harness's end of the link.

        `without_vmx` are the CPUs whose CPUID has no VMX: there the rest of it must be missing too.
        """
        msrs = [f"msr {_cpu(msr.cpu)} {msr.number:x} {msr.value:x}" for msr in self.msrs()]
        plain = [f"without_vmx {cpu:x}" for cpu in without_vmx]
        plain += [
            f"msr {cpu:x} {FEAT_CTL:x} {FEAT_CTL_LOCKED:x}" for cpu in without_vmx if cpu not in self.cpu.feat_ctl
        ]
        return msrs + plain + [f"vmxe {cpu:x}" for cpu in self.cpu.vmxe]


def _cpu(cpu: int | None) -> str:
    return "*" if cpu is None else f"{cpu:x}"
