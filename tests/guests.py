"""Real guests for tests: Debian's 6.12 with the project's guest image, on emulated SVM."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.guest.ssh import Shell
from harness.images.direct import direct_image
from harness.images.initramfs import build_image
from harness.images.keys import RunKeys, make_keys, run_overlay
from harness.images.recipe import load_recipe
from harness.kernels import BuildOptions, Kernel, resolve
from harness.machine import toolchain
from harness.machine.argv import BootFiles, MachineSpec
from harness.machine.emulated import platform_of
from harness.machine.engine import Engine, by_name
from harness.machine.machine import Machine
from harness.machine.state import State

KERNEL = "debian:6.12"


def deadline(seconds: float = 120.0, what: str = "this test") -> Deadline:
    """Generous: a boot takes 6 s alone, and 40 s on a machine that does five other things."""
    return Deadline.after(seconds, what)


@functools.cache
def kernel() -> Kernel:
    return resolve(KERNEL, BuildOptions(), deadline(900, "fetching the kernel"))


@dataclass
class Guest:
    """A machine, and the way into it."""

    machine: Machine
    shell: Shell
    files: BootFiles
    keys: RunKeys

    def boot(self) -> None:
        """To a shell that answers, from whatever state the guest is in, as long as its QEMU lives."""
        machine = self.machine
        if machine.state is State.CREATED:
            machine.start(deadline())
        elif machine.state is State.RUNNING:
            machine.console.send_line("reboot -f")  # needs no network, and init keeps a shell there
            machine.wait_reset(deadline())
            machine.continue_boot(deadline())
        else:
            machine.continue_boot(deadline())
        machine.wait_ready(deadline())
        self.shell.connect(deadline())

    @property
    def answers(self) -> bool:
        return self.machine.state is State.RUNNING and self.shell.alive


def files(folder: Path, booted: Kernel) -> tuple[BootFiles, RunKeys]:
    patience = deadline(900, "the guest image")
    keys = make_keys(folder)
    image = build_image(booted, load_recipe(), [], patience)
    initrd = image.write(folder / "initramfs.cpio", run_overlay(keys))
    return BootFiles(direct_image(booted, patience), initrd), keys


def make(folder: Path, spec: MachineSpec, engine: str = "tcg-svm", booted: Kernel | None = None) -> Guest:
    """A guest that is not started yet, with Debian's 6.12 or another kernel."""
    return _guest(folder, spec, by_name(engine, ""), *files(folder, booted or kernel()))


def twin(guest: Guest, folder: Path) -> Guest:
    """Another guest like this one, in a folder of its own, that can go on from its snapshot."""
    return _guest(folder, guest.machine.spec, guest.machine.engine, guest.files, guest.keys)


def _guest(folder: Path, spec: MachineSpec, engine: Engine, boot_files: BootFiles, keys: RunKeys) -> Guest:
    qemu = toolchain.find(deadline(600, "QEMU"))
    platform = platform_of(spec, engine, qemu, folder, deadline())
    machine = Machine(spec, engine, qemu, boot_files, folder, platform)
    return Guest(machine, Shell(machine, keys), boot_files, keys)
