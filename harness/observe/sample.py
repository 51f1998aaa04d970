"""State of the machine at a moment, taken on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

ABSENT = "absent"  # what a path that leads nowhere holds


@dataclass(frozen=True)
class Sample:
    """One sample.

    `virt` is per vCPU, offline ones included: whether EFER.SVME or CR4.VMXE is set, as QEMU's
    `info registers` shows it. `guest` is what `guestctl state` printed, or empty when the guest could not be
    asked (paused at its reset). `online` are the CPUs that the guest had online.
    """

    name: str
    boot: int
    virt: Mapping[int, bool]
    registers: Mapping[int, Mapping[str, int]]
    online: tuple[int, ...]
    guest: Mapping[str, Any] = field(default_factory=dict)
    console: tuple[str, ...] = ()  # what the kernel said since the sample before, or since the boot

    def lookup(self, path: str) -> str | int:
        """The value at a dotted path into `guest`, such as modules.kvm.refcnt; ABSENT when there is none."""
        value: Any = self.guest
        for part in path.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return ABSENT
            value = value[part]
        if isinstance(value, bool):
            return int(value)
        return value if isinstance(value, (str, int)) else str(value)

    def to_json(self) -> dict[str, Any]:
        """The sample as one line of samples.jsonl."""
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
            }
        )
