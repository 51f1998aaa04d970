"""From a kernel to a guest with a shell, and back to nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.guest.session import Session
from harness.guest.ssh import Shell
from harness.images.direct import direct_image
from harness.images.initramfs import GuestImage, build_image
from harness.images.keys import copy_keys, make_keys, run_overlay
from harness.images.recipe import load_recipe
from harness.kernels.model import Kernel
from harness.machine.argv import BootFiles, MachineSpec
from harness.machine.emulated import platform_of
from harness.machine.engine import Engine
from harness.machine.machine import Machine
from harness.machine.snapshot import SnapshotBroken
from harness.machine.toolchain import Qemu

INITRAMFS = "initramfs.cpio"  # in a run's folder while it runs, and in a snapshot's


@dataclass(frozen=True)
class GuestPlan:
    """What a guest is made of. `modules` are carried in its image beside the image's own."""

    kernel: Kernel
    engine: Engine
    qemu: Qemu
    spec: MachineSpec
    modules: tuple[str, ...] = ()

    def image(self, deadline: Deadline) -> GuestImage:
        """Raises what `build_image` raises."""
        return build_image(self.kernel, load_recipe(), self.modules, deadline)


@contextlib.contextmanager
def fresh(plan: GuestPlan, folder: Path, deadline: Deadline) -> Iterator[Session]:
    """A machine that is ready to be started, in a run's `folder`; nothing of it is left afterwards.

    Raises what `build_image` and `platform_of` raise.
    """
    image = plan.image(deadline)
    keys = make_keys(folder)
    initrd = image.write(folder / INITRAMFS, run_overlay(keys))
    with contextlib.ExitStack() as cleanup:
        # Tens of megabytes that can be made again from the kernel and the recipe.
        cleanup.callback(initrd.unlink)
        machine = cleanup.enter_context(_machine(plan, initrd, folder, deadline))
        session = Session(machine, plan.engine, Shell(machine, keys))
        cleanup.callback(session.shell.close)
        yield session


@contextlib.contextmanager
def restored(plan: GuestPlan, snapshot: Path, folder: Path, deadline: Deadline) -> Iterator[Session]:
    """The same for a machine that goes on from a `snapshot` of the plan (harness/run/warm.py).

    Raises SnapshotBroken when the snapshot is incomplete.
    """
    try:
        keys = copy_keys(snapshot, folder)
    except OSError as error:
        raise SnapshotBroken(f"the snapshot in {snapshot} is incomplete", found=str(error)) from error
    with contextlib.ExitStack() as cleanup:
        machine = cleanup.enter_context(_machine(plan, snapshot / INITRAMFS, folder, deadline))
        session = Session(machine, plan.engine, Shell(machine, keys), snapshot)
        cleanup.callback(session.shell.close)
        yield session


def _machine(plan: GuestPlan, initrd: Path, folder: Path, deadline: Deadline) -> Machine:
    files = BootFiles(direct_image(plan.kernel, deadline), initrd, kexec=plan.kernel.image)
    platform = platform_of(plan.spec, plan.engine, plan.qemu, folder, deadline)
    return Machine(plan.spec, plan.engine, plan.qemu, files, folder, platform)


@contextlib.contextmanager
def booted(kernel: Kernel, engine: Engine, qemu: Qemu, folder: Path, deadline: Deadline) -> Iterator[Session]:
    """The standard machine, booted and connected."""
    with fresh(GuestPlan(kernel, engine, qemu, MachineSpec()), folder, deadline) as session:
        session.start(deadline)
        session.enter(deadline)
        yield session
