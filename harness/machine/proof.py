"""Proof that an engine works here: a guest that boots, prints, and turns virtualization on.

Nothing less proves it. There are machines whose /dev/kvm opens and creates VMs, and on which QEMU then aborts or the
guest hangs in its first second. What keeps an engine from working for sure is found before (harness/machine/kvm.py).
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
from harness.cache import NotInCache, disk_full_is_a_host_fault, locked, require_making
from harness.deadline import Deadline, patience
from harness.errors import DeadlineExceeded, HarnessError, HostFault
from harness.images.direct import direct_image
from harness.images.initramfs import build_image
from harness.images.keys import make_keys, run_overlay
from harness.images.recipe import load_recipe
from harness.kernels import BuildOptions, Kernel, resolve
from harness.machine import kvm
from harness.machine.argv import BootFiles, MachineSpec
from harness.machine.emulated import platform_of
from harness.machine.ending import EndingKind, GuestOutOfReach
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
    expected: str = ""  # of one that does not work, where `text` is what was found instead

    @classmethod
    def of(cls, engine: Engine, obstacle: kvm.Obstacle) -> Proof:
        """The proof that `engine` does not work."""
        return cls(engine.label, False, obstacle.found, obstacle.advice, expected=obstacle.expected)

    def fault(self) -> HostFault:
        """Of an engine that does not work, for somebody who wants that one."""
        what = f"engine {self.engine} does not work on this host"
        return HostFault(what, expected=self.expected, found=self.text, hint=self.advice)


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
    if engine.on_host and (obstacle := kvm.look(engine.extension, kvm.this_kvm_host())):
        return Proof.of(engine, obstacle)
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
    with tempfile.TemporaryDirectory(prefix="harness-proof.") as name, disk_full_is_a_host_fault(Path(name)):
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
                return _failure(machine, error)
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
        raise _NoVirtualization(f"a guest boots, but modprobe {module} fails in it")
    off = [cpu for cpu, on in machine.virtualization(deadline).items() if not on]
    if off:
        raise _NoVirtualization(f"a guest boots and {module} loads, but virtualization stays off on CPUs {off}")
    return f"a guest with Linux {kernel.release} booted, and {module} turned virtualization on"


class _NoVirtualization(HarnessError):
    """The guest is well, and its KVM has no virtualization."""


def _failure(machine: Machine, error: HarnessError) -> Proof:
    """What failed, what QEMU said first, what the guest said last."""
    engine = machine.engine
    words = _lines(machine.run / "qemu.log")
    complaint = next((line for line in words if "warning" not in line), "")
    said = f"; QEMU said: {_QEMU_PREFIX.sub('', complaint)}" if complaint else ""
    printed = _lines(machine.run / "console.log")
    if engine.on_host:
        obstacle = kvm.this_kvm_host().obstacle(
            _case(error, printed),
            engine.extension,
            cpu=engine.cpu,
            ending=_ended(error),
            said=said,
            line=printed[-1] if printed else "",
            seconds=engine.proof_s * patience(),
        )
        return Proof.of(engine, obstacle)
    last = f"the guest's last line: {printed[-1]}" if printed else "the guest printed nothing"
    return Proof(engine.label, False, f"{error.what}{said}; {last}", "report this with `harness doctor --json -`")


def _case(error: HarnessError, printed: list[str]) -> str:
    """The case of kvm.CASES that a boot ended in."""
    if isinstance(error, GuestOutOfReach) and error.ending.kind is EndingKind.QEMU_DIED:
        return "QEMU ended"
    if not printed:
        return "no kernel runs"
    return "no virtualization" if isinstance(error, _NoVirtualization) else "not ready"


def _ended(error: HarnessError) -> str:
    """What a boot came to, in one line: of a wait that ran out, how the guest was then, which is its evidence."""
    return error.evidence.partition("\n")[0] or error.what if isinstance(error, DeadlineExceeded) else error.what


def _lines(log: Path) -> list[str]:
    """The lines that say something; none when there is no such file yet."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return [line.strip() for line in text.splitlines() if line.strip()]


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
