"""The lab's machine (L1): a Debian under TCG, whose KVM has SVM as QEMU emulates it.

The host's folders stand in it at the host's own paths: the project, the cache, and the folder of runs. Only runs are
written to; what is put into the cache there stays in the lab, and is gone with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import paths, process
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.images import cpio
from harness.images.direct import direct_image
from harness.images.initramfs import GuestImage, build_image
from harness.images.keys import RunKeys, make_keys, run_overlay
from harness.images.recipe import load_recipe
from harness.kernels.model import BuildOptions
from harness.kernels.resolve import resolve
from harness.lab.root import require_tools, root_image
from harness.machine import host, toolchain
from harness.machine.argv import BootFiles, Disk, MachineSpec, Share
from harness.machine.engine import by_name
from harness.machine.machine import Machine
from harness.machine.toolchain import Qemu
from harness.paths import PROJECT

# Its kvm_amd, on QEMU 11.1, is what was measured; under QEMU 7.2 a guest of the lab oopses.
KERNEL = "debian:6.12"
ENGINE = "tcg-svm"

MEMORY_MIB = 4096  # guests have 512 to 768 MiB, one or two at a time
_SCRATCH = "16G"  # sparse: what is written in the lab takes space, and is gone with it

# One more than the host has: CPU 0 is for no guest (guest-images/lab/start-lab), and otherwise idle. No more than 4:
# each is a thread of the host that spins while another one waits.
_CPUS = 4
_NOT_FOR_GUESTS = 1

# No caches of the CPU to protect here, and each mitigation costs every exit of a guest.
_CMDLINE = "mitigations=off"

_RECIPE = PROJECT / "guest-images" / "lab-boot.yaml"


@dataclass(frozen=True)
class Made:
    """What every lab of this version is made of, out of the cache."""

    qemu: Qemu
    kernel: Path  # to be booted
    image: GuestImage
    root: Path


def prepare(deadline: Deadline) -> Made:
    """Fetches and builds what is missing. Raises HostFault where that cannot be done."""
    require_tools("mke2fs")
    qemu = toolchain.find(deadline)
    kernel = resolve(KERNEL, BuildOptions(), deadline)
    image = build_image(kernel, load_recipe(_RECIPE), [], deadline)
    return Made(qemu, direct_image(kernel, deadline), image, root_image(deadline))


def cache_folder() -> Path:
    """The cache by a path without symbolic links: what they lead through is not in the lab."""
    return paths.cache_dir().resolve()


def require_apart(runs: Path) -> None:
    """Raises UsageError for a folder of runs that is the cache or the project: the lab would write to those."""
    if runs in (cache_folder(), PROJECT):
        raise UsageError(
            "runs in the lab need a folder of their own", found=str(runs), hint=f"HARNESS_RUNS={runs}/runs"
        )


def shares(runs: Path) -> dict[Share, str]:
    """What the lab sees of the host, and how: `ro`, `rw`, or `layered` for what only looks writable.

    In the order in which they are mounted: a folder within another one after it, since it would be hidden.
    """
    rows = {
        Share("project", PROJECT, readonly=True): "ro",
        Share("cache", cache_folder(), readonly=True): "layered",
        Share("runs", runs, readonly=False): "rw",
    }
    return dict(sorted(rows.items(), key=lambda row: len(row[0].folder.parts)))


@contextlib.contextmanager
def outer_machine(folder: Path, runs: Path, deadline: Deadline) -> Iterator[tuple[Machine, RunKeys]]:
    """The machine, ready to be started, in the empty `folder`; what it is given to boot is gone afterwards.

    Raises HostFault for what is missing on the host.
    """
    made = prepare(deadline)
    seen = shares(runs)
    scratch = folder / "scratch.ext4"
    process.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", scratch, _SCRATCH], deadline, env=_SBIN)
    keys = make_keys(folder)
    initrd = made.image.write(folder / "initramfs.cpio", run_overlay(keys), cpio.pack((_table(seen),)))
    spec = MachineSpec(
        cpus=min(host.cpus() + _NOT_FOR_GUESTS, _CPUS),
        memory_mib=MEMORY_MIB,
        cmdline=_CMDLINE,
        disks=(Disk(made.root, readonly=True), Disk(scratch, readonly=False)),
        shares=tuple(seen),
    )
    engine = by_name(ENGINE, host.host_cpu().vendor)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(initrd.unlink)
        cleanup.callback(scratch.unlink)
        files = BootFiles(made.kernel, initrd)
        yield cleanup.enter_context(Machine(spec, engine, made.qemu, files, folder)), keys


# mke2fs is not in every user's PATH.
_SBIN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def _table(seen: dict[Share, str]) -> cpio.Entry:
    """What /init of the lab mounts: guest-images/lab/init."""
    lines = (f"{share.tag} {mode} {share.folder}\n" for share, mode in seen.items())
    return cpio.file("etc/shares", "".join(lines).encode())
