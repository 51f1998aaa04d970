"""Warm guests: snapshots of booted ones in the cache, so that not every run boots.

Made when they are first needed, one for each that differs in kernel, image, machine, engine, QEMU or plugin. A guest
brings its SSH keys along, what its console said, and what the emulated platform saw of its boot: a run that goes on
from a snapshot leaves a folder that is judged like that of a run that booted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from harness import progress
from harness.cache import locked, staged_dir
from harness.deadline import Deadline
from harness.errors import HarnessError, HostFault
from harness.guest.boot import INITRAMFS, GuestPlan, fresh
from harness.guest.session import Session
from harness.images.initramfs import boot_modules
from harness.images.keys import copy_keys, remove_keys
from harness.kernels.model import Kernel
from harness.machine.argv import BY_HAND, BootFiles, groups
from harness.machine.engine import Engine
from harness.machine.host import free_gib, host_cpu, this_host
from harness.machine.machine import QMP_LOG
from harness.machine.snapshot import CONSOLE
from harness.paths import cache_dir
from harness.platform import build
from harness.platform.link import EVENTS
from harness.probes.addresses import SymbolTable
from harness.probes.functions import FunctionProbes
from harness.probes.tracer import prepare
from harness.scenario.check import BOOT
from harness.scenario.expectations import InWindow
from harness.scenario.model import Scenario

_FORMAT = 3  # counts up when a guest is saved in another condition

_MAKE_S = 180.0  # a boot of 5 to 8 s, and a save of 1 s, on an idle host
_CAP_BYTES = 8 << 30  # of all together; each has 100 to 200 MB on the disk
_FREE_GIB = 1.0  # less than this is left to others
_IN_USE_S = 900.0  # longer than any run takes to get what it needs out of a snapshot


def cold_reason(scenario: Scenario, kernel: Kernel, engine: Engine, modules: Collection[str]) -> str:
    """Why a run of `scenario` has to boot by itself; "" when it may go on from a snapshot.

    `modules` are those whose functions are traced, or held at: that has to be prepared before they are loaded.
    """
    if scenario.machine.tdx is not None:
        return "the TDX module is at work from the boot on"
    expectations = scenario.expectations_on(str(kernel.version), engine.extension.name)
    if any(isinstance(one, InWindow) and one.during and one.during[0] == BOOT for one in expectations):
        return "an expectation looks at the boot"
    if modules and (loaded := boot_modules(kernel).intersection(modules)):
        return f"it is about functions of {', '.join(sorted(loaded))}, which is loaded in the boot"
    return ""


def warm_guest(plan: GuestPlan, symbols: SymbolTable) -> Path | None:
    """The folder of a snapshot of `plan`, booted and idle, made when the cache has none.

    None, with a note, when it cannot be made: a boot then shows whose fault that is.
    """
    deadline = Deadline.after(_MAKE_S, "a snapshot of the booted guest")
    store = cache_dir() / "snapshots"
    try:
        entry = store / snapshot_key(plan, deadline)
        if not entry.exists():
            with locked(entry.with_suffix(".lock"), deadline):
                if not entry.exists():
                    _make(entry, plan, symbols, deadline)
        os.utime(entry)
    except HarnessError as error:
        progress.note(f"no snapshot: {error.what}")
        return None
    except FileNotFoundError:  # another run found it broken
        return None
    return entry


def discard(entry: Path, run: Path) -> None:
    """Removes a snapshot, and from the folder `run` what it had brought there."""
    _remove(entry)
    remove_keys(run)
    for record in (CONSOLE, EVENTS, QMP_LOG):
        (run / record).unlink(missing_ok=True)


def _remove(entry: Path) -> None:
    """Who reads it meanwhile finds it gone, never half of it."""
    grave = entry.with_name(f".gone-{entry.name}-{os.getpid()}-{threading.get_ident()}")
    with contextlib.suppress(FileNotFoundError):
        entry.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)


def _make(entry: Path, plan: GuestPlan, symbols: SymbolTable, deadline: Deadline) -> None:
    if free_gib(entry.parent) < _FREE_GIB:
        raise HostFault(f"less than {_FREE_GIB} GiB are free in {entry.parent}")
    with progress.task("snapshot of the booted guest"), staged_dir(entry) as stage:
        boot = stage / "boot"
        boot.mkdir()
        with fresh(plan, boot, deadline) as session:
            _boot(session, plan, symbols, deadline)
            session.machine.save(stage, deadline)
            copy_keys(boot, stage)
            (stage / INITRAMFS).hardlink_to(boot / INITRAMFS)
        shutil.rmtree(boot)
    trim(entry.parent, _CAP_BYTES)


def trim(store: Path, cap: int) -> None:
    """Removes the snapshots that were not used for longest, down to `cap` bytes; never one that may be in use."""
    total = 0
    for used, size, entry in sorted(_entries(store), reverse=True):
        total += size
        if total > cap and time.time() - used > _IN_USE_S:
            _remove(entry)


def _boot(session: Session, plan: GuestPlan, symbols: SymbolTable, deadline: Deadline) -> None:
    """Boots as a run does; the guest is then idle, and has served a connection."""
    platform = session.machine.platform
    functions = FunctionProbes.on(platform, plan.kernel, symbols, ()) if platform is not None else None
    session.start(deadline)
    session.enter(deadline)
    if functions is not None:
        functions.require_begun()
    prepare(session, deadline)
    session.run("exec guestctl state", deadline)
    session.shell.close()


def snapshot_key(plan: GuestPlan, deadline: Deadline) -> str:
    """What the guest's memory and QEMU's state follow from."""
    files = BootFiles(Path("/kernel"), Path("/initrd"), Path("/kexec"))
    machine = groups(plan.spec, plan.engine, files, Path("/run"), BY_HAND)
    plugin = build.plugin(plan.qemu.version, deadline).parent.name if plan.engine.emulated else ""
    parts = (
        *(
            str(_FORMAT),
            plan.kernel.key,
            plan.kernel.release,
            json.dumps(dict(plan.kernel.provenance), sort_keys=True),
            plan.image(deadline).key,
        ),
        *(plan.engine.label, plan.qemu.version, plan.qemu.origin, plugin, _host(plan.engine)),
        *(repr(plan.spec), *(word for group in machine for word in group.words)),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _host(engine: Engine) -> str:
    """What a guest with the host's own CPUs takes over from them and from the host's KVM."""
    if not engine.on_host:
        return ""
    return json.dumps([this_host((engine.extension.module,)).to_json(), sorted(host_cpu().flags)])


def _entries(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each snapshot was last used, and its bytes on the disk."""
    for entry in folder.iterdir():
        if entry.name.startswith(".") or entry.suffix == ".lock":
            continue
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            yield entry.stat().st_mtime, sum(file.stat().st_blocks * 512 for file in entry.iterdir()), entry
