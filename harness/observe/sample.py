"""State of the machine at a moment, taken on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.observe.port_write import PortWrite

SAMPLES_LOG = "samples.jsonl"  # in a run's folder: a sample per line

AT_RESET = "reset"  # the sample that is taken by itself when the machine resets

ABSENT = "absent"  # what a path that leads nowhere holds
PLATFORM = "platform."  # paths into the emulated platform's state begin so


@dataclass(frozen=True)
class Sample:
    """One sample.

    `virt` is per vCPU, offline ones included: whether EFER.SVME or CR4.VMXE is set, as QEMU's
    `info registers` shows it. `guest` is what `guestctl state` printed, or empty when the guest could not be
    asked (paused at its reset). `platform` is the emulated platform's own view, whatever the guest does; empty on an
    engine without one. `online` are the CPUs that the guest had online. `wrote` is what each vCPU that stands right
    behind an OUT has written; None where nobody looked, which is everywhere but at a reset.
    """

    name: str
    boot: int
    virt: Mapping[int, bool]
    registers: Mapping[int, Mapping[str, int]]
    online: tuple[int, ...]
    guest: Mapping[str, Any] = field(default_factory=dict)
    platform: Mapping[str, Any] = field(default_factory=dict)
    console: tuple[str, ...] = ()  # what the kernel said since the sample before, or since the boot
    wrote: Mapping[int, PortWrite] | None = None

    @property
    def half_on(self) -> Mapping[int, str]:
        """The CPUs whose virtualization is neither on nor off, and why: CR4.VMXE and VMX operation differ.

        Only the emulated platform tells VMX operation, which is what VMXON begins (Intel SDM vol. 3, 24.7).
        """
        found = {}
        for name, cpu in self.platform.get("vmx", {}).items():
            vmxe = self.virt.get(int(name), False)
            if vmxe and not cpu["root"]:
                found[int(name)] = "CR4.VMXE is set, without VMX operation"
            elif cpu["root"] and not vmxe:
                found[int(name)] = "in VMX operation, without CR4.VMXE"
        return found

    def answers(self, path: str) -> bool:
        """Whether the part of the sample that `path` leads into could be taken."""
        return bool(self._part(path)[0])

    def lookup(self, path: str) -> str | int:
        """The value at a dotted path such as modules.kvm.refcnt or platform.vmx.2.root; ABSENT when there is none."""
        value: Any
        value, inner = self._part(path)
        for name in inner.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return ABSENT
            value = value[name]
        if value is None:
            return ABSENT
        if isinstance(value, bool):
            return int(value)
        return value if isinstance(value, (str, int)) else str(value)

    def _part(self, path: str) -> tuple[Mapping[str, Any], str]:
        """What `path` leads into, and the path in there."""
        inner = path.removeprefix(PLATFORM)
        return (self.guest, path) if inner == path else (self.platform, inner)

    def to_json(self) -> dict[str, Any]:
        """The sample as one line of SAMPLES_LOG."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sample:
        """The inverse of `to_json` (JSON has turned CPU numbers into text)."""
        return cls(
            **{
                **data,
                "virt": {int(cpu): on for cpu, on in data["virt"].items()},
                "registers": {int(cpu): regs for cpu, regs in data["registers"].items()},
                "online": tuple(data["online"]),
                "console": tuple(data.get("console", ())),
                "wrote": _port_writes(data.get("wrote")),
            }
        )


def _port_writes(data: Mapping[str, Any] | None) -> Mapping[int, PortWrite] | None:
    return None if data is None else {int(cpu): PortWrite(**write) for cpu, write in data.items()}
