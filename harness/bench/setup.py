"""What the subjects have in common: the kernel, QEMU and the engine, each found when first asked for."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.kernels import BuildOptions, Kernel, resolve
from harness.machine import toolchain
from harness.machine.auto import Tools
from harness.machine.engine import AUTO, Engine
from harness.machine.toolchain import Qemu

KERNEL = "debian:6.12"

_FETCH_S = 1800.0


@dataclass(frozen=True)
class Setup:
    """The setting of all measurements. `scratch` is a folder for what they leave, removed afterwards."""

    scratch: Path

    @functools.cached_property
    def kernel(self) -> Kernel:
        return resolve(KERNEL, BuildOptions(), Deadline.after(_FETCH_S, f"fetching {KERNEL}"))

    @functools.cached_property
    def qemu(self) -> Qemu:
        return toolchain.find(Deadline.after(_FETCH_S, "QEMU"))

    @functools.cached_property
    def engine(self) -> Engine:
        return Tools(AUTO, self.qemu).engine()
