"""Proof that an engine works here: a guest that boots, prints, and turns virtualization on.

Nothing less proves it. There are machines whose /dev/kvm opens and creates VMs, and on which QEMU then aborts or the
guest hangs in its first second.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import paths, progress
from harness.cache import NotInCache, locked, require_making
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.images.direct import direct_image
from harness.images.initramfs import build_image
from harness.images.keys import make_keys, run_overlay
from harness.images.recipe import load_recipe
from harness.kernels import BuildOptions, Kernel, resolve
from harness.machine.argv import BootFiles, MachineSpec
from harness.machine.emulated import platform_of
from harness.machine.engine import Engine
from harness.machine.host import boot_id, host_cpu
from harness.machine.machine import Machine
from harness.machine.toolchain import Qemu
from harness.platform import build

# Turns virtualization on when kvm_amd or kvm_intel loads, so that one modprobe shows all there is to show.
PROOF_KERNEL = "debian:6.12"

_CPUS = 2
_SAID = "harness-proof"
_QEMU_PREFIX = re.compile(r"^\S*Z (\S*qemu\S*: )?")  # the time, and QEMU's long path


@dataclass(frozen=True)
class Proof:
    """What came of trying an engine. `text` continues `engine … works: ` or `engine … does not work: `."""

    engine: str  # its label
    works: bool
    text: str
    advice: str = ""
    seconds: float = 0.0


def proof_of(engine: Engine, qemu: Qemu, deadline: Deadline, *, again: bool = False) -> Proof:
    """The proof for `engine` on this boot of the host: from the cache, or by trying it now (always when `again`).

    Raises HostFault when there is no kernel or image to try it with.
    """
    if obstacle := _obstacle(engine, qemu, deadline):
        return obstacle
    store = paths.cache_dir() / "proofs.json"
    with locked(store.with_suffix(".lock"), deadline):
        known = {} if again else _load(store, qemu)
        if engine.label not in known:
            require_making(f"a proof of engine {engine.label}")
            with progress.task(f"try engine {engine.label} with a guest"):
                proof = prove(engine, qemu, deadline)
            # Others may be from before: a proof that is asked for again replaces only itself.
            known = {**_load(store, qemu), engine.label: proof}
            _save(store, qemu, known)
        return known[engine.label]


def _obstacle(engine: Engine, qemu: Qemu, deadline: Deadline) -> Proof | None:
    """Why the engine need not be tried with a guest. Never kept: installing a compiler, say, takes it away."""
    vendor = host_cpu().vendor
    if not engine.suits(vendor):
        text = f"this host's CPU ({vendor}) has no {engine.extension.name.upper()}"
        return Proof(engine.label, works=False, text=text)
    if engine.emulated:
        try:
            build.plugin(qemu.version, deadline)
        except NotInCache:
            raise
        except HarnessError as error:
            details = (("expected", error.expected), ("found", error.found))
            text = "; ".join([error.what, *(f"{label}: {detail}" for label, detail in details if detail)])
            return Proof(engine.label, works=False, text=text, advice=error.hint)
    return None


def prove(engine: Engine, qemu: Qemu, deadline: Deadline) -> Proof:
    """Boots a guest with `engine`, loads its KVM module, and looks at every CPU's registers."""
    kernel = resolve(PROOF_KERNEL, BuildOptions(), deadline)
    image = build_image(kernel, load_recipe(), [], deadline)
    with tempfile.TemporaryDirectory(prefix="harness-proof.") as name:
        folder = Path(name)
        initrd = image.write(folder / "initramfs.cpio", run_overlay(make_keys(folder)))
        files = BootFiles(direct_image(kernel, deadline), initrd)
        spec = MachineSpec(cpus=_CPUS, memory_mib=512)
        begin = time.monotonic()
        platform = platform_of(spec, engine, qemu, folder, deadline)
        with Machine(spec, engine, qemu, files, folder, platform) as machine:
            try:
                text = _try(machine, kernel, deadline.sooner(engine.proof_s, f"a guest with engine {engine.label}"))
            except HarnessError as error:
                return Proof(engine.label, False, _failure(machine, error), _ADVICE[engine.on_host])
        return Proof(engine.label, True, text, seconds=round(time.monotonic() - begin, 1))


def _try(machine: Machine, kernel: Kernel, deadline: Deadline) -> str:
    """Returns what was seen to work; raises the harness's errors otherwise."""
    machine.start(deadline)
    machine.wait_ready(deadline)
    module = machine.engine.extension.module
    machine.console.send_line(f"modprobe {module}; echo {_SAID} $?")
    # The shell's echo of the command has the words, but no digit after them.
    status = machine.wait_console(rf"{_SAID} \d", deadline).text.rpartition(" ")[2]
    if status != "0":
        raise HarnessError(f"a guest boots, but modprobe {module} fails in it", evidence=machine.console.excerpt())
    off = [cpu for cpu, on in machine.virtualization(deadline).items() if not on]
    if off:
        raise HarnessError(f"{module} loads, but virtualization stays off on CPUs {off}")
    return f"a guest with Linux {kernel.release} booted, and {module} turned virtualization on"


def _failure(machine: Machine, error: HarnessError) -> str:
    """One line for a table: what failed, what QEMU said first, what the guest said last."""
    words = _lines(machine.run / "qemu.log")
    complaint = next((line for line in words if "warning" not in line), "")
    printed = _lines(machine.run / "console.log")
    parts = [error.what]
    if complaint:
        parts.append(f"QEMU said: {_QEMU_PREFIX.sub('', complaint)}")
    parts.append(f"the guest's last line: {printed[-1]}" if printed else "the guest printed nothing")
    return "; ".join(parts)


def _lines(log: Path) -> list[str]:
    """The lines that say something; none when there is no such file yet."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return [line.strip() for line in text.splitlines() if line.strip()]


# By Engine.on_host.
_ADVICE = {
    True: "use tcg-svm; kvm needs a host with hardware virtualization that this user may use, and with nesting on",
    False: "report this with the output of `harness doctor --json -`",
}


def _load(store: Path, qemu: Qemu) -> dict[str, Proof]:
    """The proofs of this boot of the host with this QEMU; a file that cannot be read has none."""
    try:
        data: Mapping[str, Any] = json.loads(store.read_text())
        if data["for"] != _validity(qemu):
            return {}
        return {label: Proof(**fields) for label, fields in data["proofs"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _save(store: Path, qemu: Qemu, proofs: Mapping[str, Proof]) -> None:
    data = {
        "for": _validity(qemu),
        "proofs": {label: dataclasses.asdict(proof) for label, proof in proofs.items()},
    }
    temporary = store.with_suffix(".new")
    temporary.write_text(json.dumps(data, indent=1))
    temporary.replace(store)


def _validity(qemu: Qemu) -> list[str]:
    return [boot_id(), qemu.version, *qemu.argv_prefix]
