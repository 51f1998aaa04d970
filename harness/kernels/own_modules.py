"""Modules of the harness's own, which do what no module of the kernel does.

A module is a folder guest-images/src/NAME with a Kbuild file, and a row here. It is loaded by its name like any of
the kernel's. One that needs an option which Debian's kernels lack is built along with each `debian-source:` kernel
that has it, and installed below lib/modules/RELEASE. The others are built against a Debian kernel's headers, when a
scenario loads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import paths
from harness.kernels.model import KernelVersion


@dataclass(frozen=True)
class OwnModule:
    """For kernels of `since` and later, but before `until`, that have the option `needs`; None, "": any."""

    name: str
    since: KernelVersion | None = None
    until: KernelVersion | None = None
    needs: str = ""

    @property
    def folder(self) -> Path:
        return paths.PROJECT / "guest-images/src" / self.name

    @property
    def sha256(self) -> str:
        """Of its files."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        return digest.hexdigest()

    def suits(self, version: KernelVersion, options: Mapping[str, str]) -> bool:
        new_enough = self.since is None or self.since <= version
        old_enough = self.until is None or version < self.until
        return new_enough and old_enough and (not self.needs or options.get(self.needs, "n") != "n")


OWN_MODULES = (
    # tdx_enable() was exported for KVM in 6.8, but had no caller before KVM's own TDX support in 6.16.
    OwnModule("tdx_driver", KernelVersion(6, 8), KernelVersion(6, 16), "CONFIG_INTEL_TDX_HOST"),
    OwnModule("cpuhp_squatter", since=KernelVersion(6, 3)),
    OwnModule("kvm_nofreeze"),
    OwnModule("syscore_sleeper"),
)
