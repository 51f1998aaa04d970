"""`modules_only: kvm`: the first build of a kernel's KVM modules, and the next one after an edit of kvm_main.c."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from pathlib import Path

from harness.bench.caches import borrowed_cache
from harness.bench.setup import KERNEL, Setup
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernels import BuildOptions, resolve
from harness.kernels.patches import read_patches
from harness.paths import PROJECT

CLEAN = "KVM modules, clean"
EDITED = "KVM modules, kvm_main.c edited"

_EDITED_FILE = "virt/kvm/kvm_main.c"
_MUTANTS = PROJECT / "patches" / "mutants" / "6.12"
# Packages, compilers and the stock kernel; not the objects, and none of the modules built before.
_SHARED = ("apt", "toolchains", "kernels/pins.json", "kernels/{key}")


class ModuleRebuild:
    """Both builds, one after the other in a cache without either, since the second one needs the first one's objects.

    The clean build unpacks headers and sources; their packages are there already. The edits are the project's own
    mutants, another one each round.
    """

    name = "KVM modules"

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._edits = itertools.cycle(edits())

    def prepare(self, deadline: Deadline) -> None:
        resolve(KERNEL, BuildOptions(modules_only="kvm"), deadline)  # fetches the packages where they are missing

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        shared = [pattern.format(key=self._setup.kernel.key) for pattern in _SHARED]
        with borrowed_cache(self._setup.scratch, shared):
            begin = time.monotonic()
            resolve(KERNEL, BuildOptions(modules_only="kvm"), deadline)
            clean = time.monotonic()
            resolve(KERNEL, BuildOptions((next(self._edits),), modules_only="kvm"), deadline)
            end = time.monotonic()
        return {CLEAN: clean - begin, EDITED: end - clean}


def edits() -> list[Path]:
    """The project's mutants that change kvm_main.c and nothing else."""
    found = [path for path in sorted(_MUTANTS.glob("*.patch")) if _touched(path) == {_EDITED_FILE}]
    if not found:
        raise UsageError(f"no edit to measure with: no patch in {_MUTANTS} changes {_EDITED_FILE} only")
    return found


def _touched(path: Path) -> set[str]:
    return {name for patch in read_patches([path]) for name in patch.files}
