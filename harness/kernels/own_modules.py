"""Modules of the harness's own, which call what no module of the kernel calls. `debian-source:` kernels have them.

A module is a folder guest-images/src/NAME with a Kbuild file, and a row here. It is installed below
lib/modules/RELEASE with the kernel's own, and loaded by its name like any of them.
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
    """For kernels of `since` and later, but before `until`, that have the option `needs`."""

    name: str
    since: KernelVersion
    until: KernelVersion
    needs: str

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
        return self.since <= version < self.until and options.get(self.needs, "n") != "n"


OWN_MODULES = (
    # tdx_enable() was exported for KVM in 6.8, but had no caller before KVM's own TDX support in 6.16.
    OwnModule("tdx_driver", KernelVersion(6, 8), KernelVersion(6, 16), "CONFIG_INTEL_TDX_HOST"),
)
