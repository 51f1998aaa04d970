"""A kernel that can be booted, and how to ask for one."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HostFault


@functools.total_ordering
@dataclass(frozen=True)
class KernelVersion:
    """major.minor.patch of a release string; compares like a tuple.

    >>> KernelVersion.parse("6.12.95+deb12-amd64") < KernelVersion.parse("7.3")
    True
    """

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, release: str) -> KernelVersion:
        """Reads the leading numbers of `release`. Raises ValueError when there are none."""
        match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
        if match is None:
            raise ValueError(f"not a kernel version: {release!r}")
        return cls(int(match[1]), int(match[2]), int(match[3] or 0))

    def _key(self) -> tuple[int, int, int]:
        return (self.major, self.minor, self.patch)

    def __lt__(self, other: KernelVersion) -> bool:
        return self._key() < other._key()

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True)
class BuildOptions:
    """What is done to a kernel source before it is booted. Empty: the kernel as it comes."""

    patches: tuple[Path, ...] = ()  # patch files, mailboxes or quilt series, applied in this order
    config_fragments: tuple[str, ...] = ()  # names in kconfigs/ (without .config) or paths
    modules_only: str = ""  # "kvm": rebuild only the KVM modules against the distro's headers


@dataclass(frozen=True)
class Kernel:
    """A kernel in the cache, ready to boot.

    `modules` is the directory lib/modules/<release> with modules.dep in it, or None for a kernel
    without modules. `overlay` maps a module's name (with underscores: kvm_amd) to an uncompressed .ko that
    replaces the one in `modules`. `symbols` is the System.map of a kernel that was built here, else None.
    """

    spec: str  # as the user wrote it: debian:6.12
    release: str  # uname -r
    image: Path  # bzImage
    config: Mapping[str, str]  # CONFIG_FOO -> y, m or a value; options that are not set are absent
    modules: Path | None
    symbols: Path | None = None
    overlay: Mapping[str, Path] = field(default_factory=dict)
    key: str = ""  # content address: equal keys boot equal bytes
    provenance: Mapping[str, object] = field(default_factory=dict)  # JSON: versions, sha, patch hashes

    @property
    def version(self) -> KernelVersion:
        return KernelVersion.parse(self.release)

    def require_config(self, options: Mapping[str, str]) -> None:
        """Raises HostFault naming each option of `options` (CONFIG_X -> reason) that is neither y nor m.

        An image whose configuration nobody knows passes.
        """
        if not self.config:
            return
        missing = {name: why for name, why in options.items() if self.config.get(name) not in ("y", "m")}
        if missing:
            raise HostFault(
                f"kernel {self.spec} ({self.release}) lacks options that the harness needs",
                found="not set: " + ", ".join(f"{name} ({why})" for name, why in missing.items()),
                hint="build it with the fragment kconfigs/harness.config",
            )
