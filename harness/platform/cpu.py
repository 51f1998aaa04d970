"""The Intel CPUs that the emulated platform has: models by name, and what their VMX capability MSRs say.

A capability MSR of controls has the allowed-0 settings in its low half and the allowed-1 settings in its high half
(Intel SDM vol. 3, appendix A): a control that a CPU lacks is one whose allowed-1 bit is clear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from harness.errors import UsageError

FAMILY = 6

FEAT_CTL = 0x3A
FEAT_CTL_VMX = 0b101  # locked, VMX allowed outside SMX: how firmware leaves it
FEAT_CTL_LOCKED = 0b001  # on a CPU without VMX, which has the MSR for LMCE and SGX
KEYID_PARTITIONING = 0x87


@dataclass(frozen=True)
class CpuModel:
    """A CPU model as CPUID has it (arch/x86/include/asm/intel-family.h), with the stepping that was sold."""

    name: str
    model: int
    stepping: int
    pw_mce: bool  # Linux takes it for one with the erratum X86_BUG_TDX_PW_MCE (arch/x86/virt/vmx/tdx/tdx.c)


MODELS: Mapping[str, CpuModel] = {
    row.name: row
    for row in (
        CpuModel("sapphirerapids", 143, stepping=8, pw_mce=True),
        CpuModel("emeraldrapids", 207, stepping=2, pw_mce=True),
        # The default: without the erratum the kernel resets no PAMT page by page, and kexec with TDX is allowed.
        CpuModel("graniterapids", 173, stepping=1, pw_mce=False),
    )
}
DEFAULT_MODEL = "graniterapids"

_BASIC = 0x480
_PIN = (0x481, 0x48D)  # the plain MSR, and the "true" one
_PROC = (0x482, 0x48E)
_EXIT = (0x483, 0x48F)
_ENTRY = (0x484, 0x490)
_PROC2 = (0x48B,)
_EPT_VPID = 0x48C

# What Linux 6.1 to 7.3 are content with; all that KVM can make use of is there.
CAPABILITIES: Mapping[int, int] = {
    # Revision 4; regions of 4 KiB, because Linux zeroes no more of a new VMCS than this says (alloc_vmcs_cpu()), and
    # the plugin keeps fields beyond the 1 KiB of real CPUs (plugin/vmcs.c); write-back; the true controls are there.
    _BASIC: 0x10DA_1000_0000_0004,
    0x481: 0x0000_00FF_0000_0016,
    0x482: 0xFFF9_FFFE_0401_E172,
    0x483: 0x01FF_FFFF_0003_6DFF,
    0x484: 0x0003_FFFF_0000_11FF,
    0x485: 0x0000_0000_7004_C1E7,
    0x486: 0x0000_0000_8000_0021,  # CR0 fixed to 1: PE, NE, PG
    0x487: 0x0000_0000_FFFF_FFFF,
    0x488: 0x0000_0000_0000_2000,  # CR4 fixed to 1: VMXE
    0x489: 0x0000_0000_01F7_7FFF,  # CR4 may have all that CPUID can have: UMIP, LA57, PKE, CET, PKS too
    0x48A: 0x0000_0000_0000_002E,
    0x48B: 0xFFFF_FFFF_0000_0000,
    _EPT_VPID: 0x0000_0F01_0673_4141,
    0x48D: 0x0000_00FF_0000_0016,
    0x48E: 0xFFF9_FFFE_0400_6172,
    0x48F: 0x01FF_FFFF_0003_6DFB,
    0x490: 0x0003_FFFF_0000_11FB,
    0x491: 0x0000_0000_0000_0001,
}

_LOW = 0xFFFF_FFFF
_HIGH = _LOW << 32


@dataclass(frozen=True)
class Control:
    """A VMX capability that a CPU can lack: bits per capability MSR that are then clear."""

    clear: Mapping[int, int]

    @classmethod
    def of(cls, msrs: tuple[int, ...], *bits: int, gone: Mapping[int, int] | None = None) -> Control:
        """The controls `bits` of a control field, and what else a CPU without them does not report."""
        mask = sum(1 << bit for bit in bits) << 32
        return cls(dict.fromkeys(msrs, mask) | dict(gone or {}))

    def __or__(self, other: Control) -> Control:
        both = self.clear.keys() | other.clear.keys()
        return Control({msr: self.clear.get(msr, 0) | other.clear.get(msr, 0) for msr in both})


# Bit numbers: SDM vol. 3, 25.6.1 and 25.6.2 (pin-based, processor-based), 25.7.1 and 25.8.1 (VM-exit, VM-entry). What
# depends on a control goes with it: KVM takes EPT capabilities without "enable EPT" for a broken CPU, and refuses to
# load (setup_vmcs_config()).
_EPT_AND_USERS = (1, 7, 17, 18, 22)  # unrestricted guest, PML, #VE, mode-based execute control
_VIRTUAL_INTERRUPTS = Control.of(_PROC2, 8, 9)

CONTROLS: Mapping[str, Control] = {
    "ept": Control.of(_PROC2, *_EPT_AND_USERS, gone={_EPT_VPID: _LOW}),
    "vpid": Control.of(_PROC2, 5, gone={_EPT_VPID: _HIGH}),
    "apicv": _VIRTUAL_INTERRUPTS | Control.of(_PIN, 7),  # KVM's word for all three: cpu_has_vmx_apicv()
    "apic_register_virtualization": Control.of(_PROC2, 8),
    "virtual_interrupt_delivery": Control.of(_PROC2, 9),
    "posted_interrupts": Control.of(_PIN, 7),
    "virtual_nmis": Control.of(_PIN, 5),
    "preemption_timer": Control.of(_PIN, 6),
    "tpr_shadow": Control.of(_PROC, 21),
    "msr_bitmaps": Control.of(_PROC, 28),
    "secondary_controls": Control.of(_PROC, 31),
    "unrestricted_guest": Control.of(_PROC2, 7),
    "pause_loop_exiting": Control.of(_PROC2, 10),
    "vmcs_shadowing": Control.of(_PROC2, 14),
    "pml": Control.of(_PROC2, 17),
    "tsc_scaling": Control.of(_PROC2, 25),
    "load_efer": Control.of(_ENTRY, 15) | Control.of(_EXIT, 21),
    "load_pat": Control.of(_ENTRY, 14) | Control.of(_EXIT, 19),
}


@dataclass(frozen=True)
class Msr:
    """An MSR's value at power-on, of one vCPU or (None) of all, also of those that are plugged in later."""

    cpu: int | None
    number: int
    value: int


@dataclass(frozen=True)
class CpuConfig:
    """The CPUs that a scenario asks for. Raises UsageError for a model or control that is not in the tables.

    `feat_ctl` gives single CPUs another IA32_FEATURE_CONTROL: 1 is locked with VMX off, 0 unlocked (which Linux then
    locks itself, arch/x86/kernel/cpu/feat_ctl.c). `lacking` are the controls that a CPU does not have (None: that all
    lack); `vmxe` are the CPUs on which CR4.VMXE is set before KVM comes.
    """

    model: str = DEFAULT_MODEL
    feat_ctl: Mapping[int, int] = field(default_factory=dict)
    lacking: Mapping[int | None, tuple[str, ...]] = field(default_factory=dict)
    vmxe: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _known("CPU model", self.model, MODELS)
        for names in self.lacking.values():
            for name in names:
                _known("VMX control", name, CONTROLS)

    @property
    def identity(self) -> CpuModel:
        return MODELS[self.model]

    def msrs(self) -> Iterator[Msr]:
        """FEAT_CTL and the VMX capabilities: those of all CPUs first, then those of single CPUs that differ."""
        common = _without(CAPABILITIES, self.lacking.get(None, ()))
        yield Msr(None, FEAT_CTL, FEAT_CTL_VMX)
        yield from (Msr(None, number, value) for number, value in common.items())
        yield from (Msr(cpu, FEAT_CTL, value) for cpu, value in sorted(self.feat_ctl.items()))
        for cpu, names in self.lacking.items():
            if cpu is not None:
                own = _without(common, names)
                yield from (Msr(cpu, number, own[number]) for number in own if own[number] != common[number])

    def qemu_properties(self) -> tuple[str, ...]:
        """The properties of QEMU's CPU `max`, as -cpu has them after the model.

        `x-force-features` makes TCG show CPUID bits that it does not implement itself; `max` has no others, so that
        adds the named bits only. TDX host wants `ss` and `movdir64b` (arch/x86/virt/vmx/tdx/tdx.c, tdx_init).
        """
        identity = self.identity
        return (
            "vendor=GenuineIntel",
            *(f"family={FAMILY}", f"model={identity.model}", f"stepping={identity.stepping}"),
            *("x-force-features=on", "vmx=on", "svm=off", "ss=on", "movdir64b=on"),
        )


def _without(capabilities: Mapping[int, int], names: tuple[str, ...]) -> dict[int, int]:
    values = dict(capabilities)
    for name in names:
        for number, mask in CONTROLS[name].clear.items():
            values[number] &= ~mask
    return values


def _known(noun: str, name: str, table: Mapping[str, object]) -> None:
    if name not in table:
        raise UsageError(f"unknown {noun} {name!r}", expected=", ".join(table))
