"""From a kernel to a guest with a shell, and back to nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.deadline import Deadline
from harness.guest.session import Session
from harness.guest.ssh import Shell
from harness.images.direct import direct_image
from harness.images.initramfs import build_image
from harness.images.keys import make_keys, run_overlay
from harness.images.recipe import load_recipe
from harness.kernels.model import Kernel
from harness.machine.argv import BootFiles, MachineSpec
from harness.machine.emulated import platform_of
from harness.machine.engine import Engine
from harness.machine.machine import Machine
from harness.machine.toolchain import Qemu


@contextlib.contextmanager
def prepared(
    kernel: Kernel,
    engine: Engine,
    qemu: Qemu,
    folder: Path,
    spec: MachineSpec,
    modules: Sequence[str],
    deadline: Deadline,
) -> Iterator[Session]:
    """A machine that is ready to be started, in a run's `folder`; nothing of it is left afterwards.

    `modules` are carried in the image beside its own. Raises what `build_image` and `platform_of` raise.
    """
    image = build_image(kernel, load_recipe(), modules, deadline)
    keys = make_keys(folder)
    initrd = image.write(folder / "initramfs.cpio", run_overlay(keys))
    with contextlib.ExitStack() as cleanup:
        # Tens of megabytes that can be made again from the kernel and the recipe.
        cleanup.callback(initrd.unlink)
        files = BootFiles(direct_image(kernel, deadline), initrd, kexec=kernel.image)
        platform = platform_of(spec, engine, qemu, folder, deadline)
        machine = cleanup.enter_context(Machine(spec, engine, qemu, files, folder, platform))
        session = Session(machine, engine, Shell(machine, keys))
        cleanup.callback(session.shell.close)
        yield session


@contextlib.contextmanager
def booted(kernel: Kernel, engine: Engine, qemu: Qemu, folder: Path, deadline: Deadline) -> Iterator[Session]:
    """The same with the standard machine, booted and connected."""
    with prepared(kernel, engine, qemu, folder, MachineSpec(), (), deadline) as session:
        session.machine.start(deadline)
        session.machine.wait_ready(deadline)
        session.shell.connect(deadline)
        yield session
