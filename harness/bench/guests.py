"""Boots of the product's own guest: to the first command answered, and all the way to its power-off."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from harness.bench.setup import Setup
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.guest.boot import prepared
from harness.guest.session import Session
from harness.images.direct import direct_image
from harness.images.initramfs import build_image
from harness.images.recipe import load_recipe
from harness.machine.argv import MachineSpec
from harness.machine.console import Sign
from harness.machine.host import cpus

BOOT = "boot to the first SSH command answered"
FIRMWARE = "  QEMU's start → the kernel's first line"
KERNEL_AND_INIT = "  → init's ready line"
SSH = "  → SSH command answered"
UNAME = "harness: boot, uname -r, power off"

_KERNEL_LINE = r"^\[ *\d+\.\d+\]"  # a time stamp of printk
_COMMAND = "uname -r"


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
            prepared(setup.kernel, setup.engine, setup.qemu, Path(folder), MachineSpec(), (), deadline) as session,
        ):
            begin = time.monotonic()
            _first_command(setup, session, deadline)
            end = time.monotonic()
            first = session.machine.wait_console(_KERNEL_LINE, deadline).at
            ready = session.machine.console.signs()[Sign.READY].line.at
        return {BOOT: end - begin, FIRMWARE: first - begin, KERNEL_AND_INIT: ready - first, SSH: end - ready}


class WholeLife:
    """From nothing to a machine that is gone again, on as many vCPUs and as much memory as virtme-ng's guest has.

    The keys, the run's copy of the image, QEMU's end and the removal of its files are all part of it.
    """

    name = UNAME

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def prepare(self, deadline: Deadline) -> None:
        _fill_caches(self._setup, deadline)

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        setup, spec = self._setup, MachineSpec(cpus=cpus(), memory_mib=1024)
        begin = time.monotonic()
        with (
            tempfile.TemporaryDirectory(dir=setup.scratch) as folder,
            prepared(setup.kernel, setup.engine, setup.qemu, Path(folder), spec, (), deadline) as session,
        ):
            _first_command(setup, session, deadline)
            session.shell.start("poweroff -f", deadline)
            session.machine.wait_power_off(deadline)
        return {UNAME: time.monotonic() - begin}


def _fill_caches(setup: Setup, deadline: Deadline) -> None:
    build_image(setup.kernel, load_recipe(), (), deadline)
    direct_image(setup.kernel, deadline)
    _ = setup.engine


def _first_command(setup: Setup, session: Session, deadline: Deadline) -> None:
    session.machine.start(deadline)
    session.machine.wait_ready(deadline)
    session.shell.connect(deadline)
    answer = session.run(_COMMAND, deadline).stdout.strip()
    if answer != setup.kernel.release:
        raise HostFault(f"the guest's {_COMMAND} is wrong", expected=setup.kernel.release, found=answer)
