"""What the subjects have in common: the kernel, QEMU and the engine, each found when first asked for."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, field
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
    """The setting of all measurements. `scratch` is a folder for what they leave, removed afterwards.

    What a measurement starts and others use too is ended by `cleanup`.
    """

    scratch: Path
    engine_name: str = AUTO
    cleanup: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @functools.cached_property
    def kernel(self) -> Kernel:
        return resolve(KERNEL, BuildOptions(), Deadline.after(_FETCH_S, f"fetching {KERNEL}"))

    @functools.cached_property
    def qemu(self) -> Qemu:
        return toolchain.find(Deadline.after(_FETCH_S, "QEMU"))

    @functools.cached_property
    def engine(self) -> Engine:
        return Tools(self.engine_name, self.qemu).engine()
