"""Boots of the product's own guest: to the first command answered, and all the way to its power-off."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from harness import process
from harness.bench import life
from harness.bench.life import first_command
from harness.bench.setup import Setup
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.guest.boot import GuestPlan, fresh
from harness.images.direct import direct_image
from harness.images.initramfs import build_image
from harness.images.recipe import load_recipe
from harness.machine.argv import MachineSpec
from harness.machine.console import Sign

BOOT = "boot to the first SSH command answered"
FIRMWARE = "  QEMU → kernel's first line"
KERNEL_AND_INIT = "  → init's ready line"
SSH = "  → SSH command answered"
UNAME = "harness: boot, uname -r, power off"

_KERNEL_LINE = r"^\[ *\d+\.\d+\]"  # a time stamp of printk


class FirstCommand:
    """A boot of the standard machine (4 vCPUs) until a command over SSH has answered, and its parts."""

    name = BOOT

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def prepare(self, deadline: Deadline) -> None:
        _fill_caches(self._setup, deadline)

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        setup = self._setup
        with (
            tempfile.TemporaryDirectory(dir=setup.scratch) as folder,
            fresh(
                GuestPlan(setup.kernel, setup.engine, setup.qemu, MachineSpec()), Path(folder), deadline
            ) as session,
        ):
            begin = time.monotonic()
            first_command(session, deadline)
            end = time.monotonic()
            first = session.machine.wait_console(_KERNEL_LINE, deadline).at
            ready = session.machine.console.signs()[Sign.READY].line.at
        return {BOOT: end - begin, FIRMWARE: first - begin, KERNEL_AND_INIT: ready - first, SSH: end - ready}


class WholeLife:
    """From nothing to a machine that is gone again, as a command of its own: `python -m harness.bench.life`.

    The start of Python, keys, the run's copy of the image, and QEMU's end are part of it, as they are of vng.
    """

    name = UNAME

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def prepare(self, deadline: Deadline) -> None:
        _fill_caches(self._setup, deadline)

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        begin = time.monotonic()
        output = process.run([sys.executable, "-m", life.__name__], deadline)
        end = time.monotonic()
        if self._setup.kernel.release not in output.splitlines():
            raise HostFault("the guest did not answer", expected=self._setup.kernel.release, evidence=output)
        return {UNAME: end - begin}


def _fill_caches(setup: Setup, deadline: Deadline) -> None:
    build_image(setup.kernel, load_recipe(), (), deadline)
    direct_image(setup.kernel, deadline)
    _ = setup.engine
