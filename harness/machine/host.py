"""What this host is, read from /proc, /sys and the file system."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

KVM_DEVICE = Path("/dev/kvm")


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
