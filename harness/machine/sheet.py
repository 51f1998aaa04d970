"""What a stranger has to know of a host to judge what its KVM did: the CPUs, and how KVM is set up.

Nothing in it names the machine or a person. /proc/cmdline and the kernel log, which do, are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.machine.host import Host

_MODULES = ("kvm", "kvm_intel", "kvm_amd")
# Of /proc/cpuinfo, beside vendor and model: what a CPU's errata and capabilities go by.
_FIELDS = ("cpu family", "model", "stepping", "microcode", "flags", "vmx flags", "bugs")


def sheet(host: Host, cpuinfo: str, modules: Path = Path("/sys/module")) -> Iterator[tuple[str, str]]:
    """Names and values. `cpuinfo` is the text of /proc/cpuinfo; `modules` has the parameters of loaded modules."""
    yield "CPU", f"{host.vendor} {host.cpu}"
    first, *others = cpuinfo.strip().split("\n\n")
    fields = dict(re.findall(r"^([\w ]*?)\s*: (.*)$", first, re.MULTILINE))
    yield from ((name, fields[name]) for name in _FIELDS if name in fields)
    yield "CPUs", str(1 + len(others))
    yield "hypervisor", host.hypervisor or "none"
    yield "hardware", host.hardware or "not told"
    yield "kernel", host.kernel
    for module in _MODULES:
        values = sorted(_parameters(modules / module / "parameters"))
        yield module, " ".join(values) if (modules / module).exists() else "not loaded"


def _parameters(folder: Path) -> Iterator[str]:
    for path in folder.glob("*"):
        try:
            yield f"{path.name}={path.read_text().strip()}"
        except OSError:  # some are for root alone
            yield f"{path.name}=?"
