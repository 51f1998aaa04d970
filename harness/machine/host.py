"""What this host is, read from /proc, /sys and the file system."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.machine.hypervisor import TCG, hypervisor

KVM_DEVICE = Path("/dev/kvm")

_DMI = Path("/sys/class/dmi/id")
_TCG_MODEL = "QEMU TCG CPU"  # the model name of QEMU's `-cpu max`, also where the flag `hypervisor` is off


@dataclass(frozen=True)
class HostCpu:
    """The host's CPU, as /proc/cpuinfo has it."""

    vendor: str  # vendor_id
    model: str
    flags: frozenset[str]


def host_cpu(cpuinfo: str | None = None) -> HostCpu:
    """The first CPU of /proc/cpuinfo, or of the text `cpuinfo`."""
    text = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
    fields = dict(re.findall(r"^(\w[\w ]*?)\s*: (.*)$", text.partition("\n\n")[0], re.MULTILINE))
    flags = frozenset(fields.get("flags", "").split())
    return HostCpu(fields.get("vendor_id", "unknown"), fields.get("model name", "unknown"), flags)


@dataclass(frozen=True)
class Host:
    """The machine that ran a guest, as run.json has it. Nothing in it names one machine or one person."""

    vendor: str  # vendor_id
    cpu: str  # model name
    kernel: str  # uname -r
    hypervisor: str  # that runs this host: KVM, QEMU TCG …; "" on bare metal
    hardware: str  # its maker and product, as DMI has them; "" where there is no DMI
    nested: Mapping[str, str]  # `nested` of the KVM modules that are loaded: {"kvm_amd": "1"}

    @property
    def emulator(self) -> str:
        """What emulates its CPUs: QEMU's TCG, by its name or by that of its CPU model; "" for real ones."""
        if self.hypervisor == TCG:
            return TCG
        return self.cpu if self.cpu.startswith(_TCG_MODEL) else ""

    @property
    def emulated(self) -> bool:
        """Whether they are emulated."""
        return self.emulator != ""

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "emulated": self.emulated}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Host:
        """The inverse of `to_json`; keys that it does not know are left out."""
        return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls)})


def this_host(modules: tuple[str, ...]) -> Host:
    """This host, with `nested` of those of the KVM `modules` that are loaded."""
    cpu = host_cpu()
    return Host(
        vendor=cpu.vendor,
        cpu=cpu.model,
        kernel=platform.release(),
        hypervisor=hypervisor(cpu.flags),
        hardware=" ".join(filter(None, (_line(_DMI / "sys_vendor"), _line(_DMI / "product_name")))),
        nested={module: value for module in modules if (value := nested(module)) is not None},
    )


def _line(path: Path) -> str:
    return path.read_text(errors="replace").strip() if path.exists() else ""


def boot_id() -> str:
    """Changes with every boot of this host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def memory_mib() -> int:
    """Memory that new processes can have without swapping."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(match[1]) // 1024 if match else 0


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def free_gib(folder: Path) -> float:
    """Free space for this user where `folder` is, or will be made."""
    while not folder.exists():
        folder = folder.parent
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize / 2**30


def nested(module: str) -> str | None:
    """The `nested` parameter of the host's KVM module (Y, N, 1 or 0); None when it is not loaded."""
    path = Path("/sys/module", module, "parameters/nested")
    return path.read_text().strip() if path.exists() else None
