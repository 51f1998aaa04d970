"""What this machine can do, and what to do about what it cannot."""

from __future__ import annotations

import enum
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from harness import paths
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.machine import host
from harness.machine.engine import SVM, VMX, Engine, Extension
from harness.machine.kvm import OFF, RIVALS, KvmHost, this_kvm_host
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
    Tool("mmdebstrap", "mmdebstrap", "`harness lab`", Level.NOTE),
    Tool("genext2fs", "genext2fs", "`harness lab`", Level.NOTE),
    Tool("ssh", "openssh-client", "`harness lab`, and logging in to a guest", Level.NOTE),
)

# Programs of the system administrator are not in every user's PATH.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def examine(engines: tuple[Engine, ...], deadline: Deadline) -> Report:
    """Looks at the host, and tries each of `engines` with a guest, whatever an earlier try gave."""
    checks = [*_host(), *kvm_checks(this_kvm_host()), *_tools()]
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
    yield _beneath(host.this_host(()))
    yield Check("Python", Level.OK, platform.python_version())


def _beneath(found: host.Host) -> Check:
    """What the host runs on; a report of engine kvm says the same."""
    text = f"a guest of {found.hypervisor}" if found.hypervisor else "bare metal, as far as the CPUs tell"
    text += f" ({found.hardware})" if found.hardware else ""
    if found.emulated:
        return Check("host", Level.NOTE, text, "emulated CPUs: engine kvm is slow, and its verdicts say so")
    return Check("host", Level.OK, text)


def _enough(name: str, found: float, need: float, unit: str, advice: str) -> Check:
    text = f"{found:.0f} {unit}"
    if found >= need:
        return Check(name, Level.OK, text)
    return Check(name, Level.NOTE, text, f"{need:g} are advised: {advice}")


def kvm_checks(found: KvmHost) -> Iterator[Check]:
    """How the host's KVM is set up. Whether it works, its engine's proof says."""
    for extension in (SVM, VMX):
        if found.cpu.vendor in extension.vendors:
            yield from _parameters(extension, found)
    for module, advice in RIVALS.items():
        if found.has(module):
            yield Check(module, Level.NOTE, "loaded: a hypervisor that KVM cannot run beside", f"for kvm: {advice}")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a KVM module that should be on, and what is the matter where it is off.

    Others do not matter here: an IOMMU (VFIO wants one, and no guest of the harness has a device of the host's), the
    shadow VMCS and enlightened VMCS (how fast nesting is).
    """

    module: str
    name: str
    off: str


_PAGING = (
    "guests' page tables are kept in shadow, and a guest's own KVM has no {} either: slow, and not what is measured"
)
PARAMETERS = (
    Parameter("kvm_intel", "nested", "a guest's CPUs have no VMX"),
    Parameter("kvm_intel", "ept", _PAGING.format("EPT")),
    Parameter("kvm_intel", "unrestricted_guest", "real mode is emulated by software: a guest's firmware is slow"),
    Parameter("kvm_amd", "nested", "a guest's CPUs have no SVM"),
    Parameter("kvm_amd", "npt", _PAGING.format("NPT")),
)


def _parameters(extension: Extension, found: KvmHost) -> Iterator[Check]:
    for parameter in PARAMETERS:
        value = found.parameter(parameter.module, parameter.name)
        if parameter.module == extension.module and value:
            name = f"{parameter.module}.{parameter.name}"
            off = value in OFF
            advice = f"for kvm: modprobe -r {parameter.module} && modprobe {parameter.module} {parameter.name}=1"
            yield Check(
                name,
                Level.NOTE if off else Level.OK,
                f"{value}: {parameter.off}" if off else value,
                advice if off else "",
            )


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
