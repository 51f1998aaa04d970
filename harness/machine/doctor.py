"""What this machine can do, and what to do about what it cannot."""

from __future__ import annotations

import enum
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import paths
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.machine import host
from harness.machine.engine import SVM, VMX, Engine
from harness.machine.proof import Proof, proof_of
from harness.machine.toolchain import Qemu, find

_CACHE_GIB = 6.0  # QEMU 0.2, three Debian kernels 1.5, images 0.2; a kernel built from source adds 3
_RUNS_GIB = 0.5  # a run keeps a few MB
_MEMORY_MIB = 1500  # a guest of 512 MB, QEMU's translation buffer, the harness


class Level(enum.StrEnum):
    OK = "ok"
    NOTE = "note"  # works, with a limit
    NO = "no"  # something does not work until the advice is followed


@dataclass(frozen=True)
class Check:
    """One finding. `advice` says what to do unless the level is OK."""

    name: str
    level: Level
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """All findings; `engines` in the order in which `auto` tries them."""

    engines: tuple[Proof, ...]
    checks: tuple[Check, ...]

    @property
    def usable(self) -> bool:
        """Whether scenarios can be run here."""
        return any(proof.works for proof in self.engines) and all(check.level != Level.NO for check in self.checks)


@dataclass(frozen=True)
class Tool:
    """A program of the host, the Debian package that has it, and what the harness wants it for."""

    program: str
    package: str
    use: str
    level: Level = Level.NO  # of its absence


TOOLS = (
    Tool("apt-get", "apt", "reading the Debian archive"),
    Tool("dpkg-deb", "dpkg", "unpacking Debian packages"),
    Tool("setpriv", "util-linux", "QEMU's leash"),
    Tool("depmod", "kmod", "the modules of kernels"),
    Tool("gcc", "gcc", "the guest's helper, kernel modules"),
    Tool("make", "make", "building kernels and modules"),
    Tool("patch", "patch", "patches", Level.NOTE),
    Tool("git", "git", "kernels from git:", Level.NOTE),
    Tool("flex", "flex", "kernels from source", Level.NOTE),
    Tool("bison", "bison", "kernels from source", Level.NOTE),
    Tool("bc", "bc", "kernels from source", Level.NOTE),
    Tool("ccache", "ccache", "building again faster", Level.NOTE),
)

# Programs of the system administrator are not in every user's PATH.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def examine(engines: tuple[Engine, ...], deadline: Deadline) -> Report:
    """Looks at the host, and tries each of `engines` with a guest, whatever an earlier try gave."""
    checks = [*_host(), *_kvm(), *_tools()]
    try:
        qemu = find(deadline)
    except HarnessError as error:
        checks.append(Check("QEMU", Level.NO, error.what, error.hint))
        return Report((), tuple(checks))
    checks.append(_qemu(qemu))
    return Report(tuple(_proof(engine, qemu, deadline) for engine in engines), tuple(checks))


def _proof(engine: Engine, qemu: Qemu, deadline: Deadline) -> Proof:
    try:
        return proof_of(engine, qemu, deadline, again=True)
    except HarnessError as error:  # no kernel or image to try it with
        return Proof(engine.label, False, f"not tried: {error.what}", error.hint)


def _host() -> Iterator[Check]:
    machine = platform.machine()
    yield Check(
        "architecture",
        Level.OK if machine == "x86_64" else Level.NO,
        machine,
        "" if machine == "x86_64" else "the guests are x86-64, and so are the programs that are fetched",
    )
    cpus = host.cpus()
    yield Check(
        "CPUs",
        Level.OK if cpus > 1 else Level.NOTE,
        f"{cpus}, {host.host_cpu().model}",
        "" if cpus > 1 else "with one CPU a guest's CPUs never run at the same time; races will not happen",
    )
    yield _enough("memory", host.memory_mib(), _MEMORY_MIB, "MiB available", "close other programs")
    for name, folder, need, variable in (
        ("cache", paths.cache_dir(), _CACHE_GIB, "HARNESS_CACHE"),
        ("runs", paths.runs_dir().absolute(), _RUNS_GIB, "HARNESS_RUNS"),
    ):
        advice = f"free some space, or set {variable} to a folder on a larger disk"
        yield _enough(f"disk for {name}", host.free_gib(folder), need, f"GiB free at {folder}", advice)
    yield Check("host kernel", Level.OK, platform.release())
    yield Check("Python", Level.OK, platform.python_version())


def _enough(name: str, found: float, need: float, unit: str, advice: str) -> Check:
    text = f"{found:.0f} {unit}"
    if found >= need:
        return Check(name, Level.OK, text)
    return Check(name, Level.NOTE, text, f"{need:g} are advised: {advice}")


def _kvm() -> Iterator[Check]:
    """The prerequisites of kvm; that they are there does not prove that it works."""
    yield _kvm_device(host.KVM_DEVICE)
    for extension in (VMX, SVM):
        nested = host.nested(extension.module)
        if nested is None:
            if extension.name in host.host_cpu().flags:
                advice = f"modprobe {extension.module}, for engine kvm"
                yield Check(extension.module, Level.NOTE, "not loaded on the host", advice)
            continue
        on = nested in ("Y", "1")
        advice = f"echo options {extension.module} nested=1 > /etc/modprobe.d/nested.conf, and load it again"
        yield Check(
            f"{extension.module}.nested", Level.OK if on else Level.NOTE, nested, "" if on else f"for kvm: {advice}"
        )
    flags = host.host_cpu().flags & {"vmx", "svm"}
    yield Check(
        "CPU virtualization",
        Level.OK if flags else Level.NOTE,
        ", ".join(sorted(flags)) or "neither vmx nor svm in /proc/cpuinfo",
        "" if flags else "for kvm: switch it on in the firmware, or in the machine that this one runs in",
    )


def _kvm_device(device: Path) -> Check:
    if not device.exists():
        return Check(str(device), Level.NOTE, "absent", "for kvm: load kvm_intel or kvm_amd on the host")
    if not os.access(device, os.R_OK | os.W_OK):
        return Check(str(device), Level.NOTE, "no permission", "for kvm: adduser $USER kvm, and log in again")
    return Check(str(device), Level.OK, "can be opened, which does not prove that it works")


def _tools() -> Iterator[Check]:
    for tool in TOOLS:
        path = shutil.which(tool.program, path=_PATH)
        if path:
            yield Check(tool.program, Level.OK, path)
        else:
            yield Check(tool.program, tool.level, "absent", f"for {tool.use}: apt-get install {tool.package}")


def _qemu(qemu: Qemu) -> Check:
    found = f"{qemu.version}, {qemu.origin}"
    if qemu.fits:
        return Check("QEMU", Level.OK, found)
    return Check("QEMU", Level.NOTE, found, "another series than everything was measured with; unset HARNESS_QEMU")
