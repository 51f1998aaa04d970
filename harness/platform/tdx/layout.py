"""What the module knows about the machine: its logical processors, packages and convertible memory.

On hardware MCHECK hands these over in the module's SYSINFO table (src/common/data_structures/loader_data.h:
tot_num_lps, tot_num_sockets, cmr_data). Here they follow from QEMU's command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from harness.errors import UsageError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
PAGE = 4 * KIB

MAX_CMRS = 32  # MAX_CMR, loader_data.h
MAX_PACKAGES = 8  # MAX_PKGS; PKG_FMS has eight fields in global_sys_fields_lookup.c

# `-machine pc` without max-ram-below-4g (QEMU, hw/i386/pc_piix.c, pc_init1): RAM up to 3.5 GiB is one piece;
# from there on it is split at 3 GiB and the rest begins at 4 GiB.
_PC_SPLIT_FROM = 0xE000_0000
_PC_LOW_WHEN_SPLIT = 3 * GIB
_ABOVE_4G = 4 * GIB


def pc_cmrs(memory: int) -> tuple[tuple[int, int], ...]:
    """The convertible memory regions (base, size) in bytes of QEMU's `pc` machine with `memory` bytes of RAM.

    All RAM from 1 MiB on: Linux puts whatever memblock has above 1 MiB into TDMRs (build_tdx_memlist) and its PAMTs
    anywhere in there; MCHECK does not give the first megabyte either.
    """
    if memory <= MIB or memory % PAGE:
        raise UsageError(
            "no convertible memory", expected="whole pages and more than 1 MiB of RAM", found=f"{memory} bytes"
        )
    low = _PC_LOW_WHEN_SPLIT if memory >= _PC_SPLIT_FROM else memory
    regions = ((MIB, low - MIB), (_ABOVE_4G, memory - low))
    return tuple(region for region in regions if region[1])


@dataclass(frozen=True)
class Layout:
    """The machine as MCHECK saw it at power-on."""

    # Logical processor -> package, of every processor that is there at power-on. One that is plugged in later has no
    # place in the module: a platform with TDX has no CPU hot-plug.
    packages: Mapping[int, int]
    cmrs: tuple[tuple[int, int], ...]  # (base, size) in bytes, ascending

    def __post_init__(self) -> None:
        object.__setattr__(self, "packages", MappingProxyType(dict(self.packages)))
        if not self.packages:
            raise UsageError("a TDX layout without processors")
        if any(not 0 <= package < MAX_PACKAGES for package in self.packages.values()):
            raise UsageError("package number out of range", expected=f"0..{MAX_PACKAGES - 1}")
        self._check_cmrs()

    def _check_cmrs(self) -> None:
        """check_cmrs() of tdh_sys_init.c: a wrong layout is our error, so it must not show as the guest's."""
        if len(self.cmrs) > MAX_CMRS:
            raise UsageError("too many CMRs", expected=f"at most {MAX_CMRS}", found=str(len(self.cmrs)))
        for base, size in self.cmrs:
            if base < 0 or size <= 0 or base % PAGE or size % PAGE:
                raise UsageError("a CMR is whole pages", found=f"base {base:#x}, size {size:#x}")
        for (base, size), (following, _) in pairwise(self.cmrs):
            if base + size > following:
                raise UsageError("CMRs ascend and do not overlap", found=f"{base:#x}+{size:#x}, then {following:#x}")

    @property
    def package_count(self) -> int:
        return len(set(self.packages.values()))

    def to_json(self) -> dict[str, Any]:
        """A value that json.dumps takes."""
        return {
            "packages": {str(lp): package for lp, package in self.packages.items()},
            "cmrs": [list(region) for region in self.cmrs],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Layout:
        """The layout that `to_json` wrote."""
        packages = {int(lp): package for lp, package in data["packages"].items()}
        return cls(packages, tuple((base, size) for base, size in data["cmrs"]))
