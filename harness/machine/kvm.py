"""What /dev/kvm says of itself: why the host's KVM cannot give a guest virtualization, found without a boot.

The numbers are those of include/uapi/linux/kvm.h, the calls those of Documentation/virt/kvm/api.rst. That nothing is
found here proves nothing yet: harness/machine/proof.py then boots a guest.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.machine.engine import Extension
from harness.machine.host import KVM_DEVICE, HostCpu, host_cpu
from harness.machine.hypervisor import hypervisor

_GET_API_VERSION = 0xAE00
_CREATE_VM = 0xAE01
_GET_SUPPORTED_CPUID = 0xC008_AE05
_API_VERSION = 12  # since Linux 2.6.22; the manual tells programs to refuse any other
_CPUID_ENTRIES = 256  # room; a host has fewer than 100
_CPUID_ENTRY = struct.Struct("<3I4I12x")  # function, index, flags; EAX to EDX; padding

OFF = ("N", "0")  # a parameter of a module that is off

# Hypervisors that are no part of Linux, by their module: how to be rid of them.
RIVALS: Mapping[str, str] = {
    "vboxdrv": "VirtualBox: close its machines, modprobe -r vboxnetadp vboxnetflt vboxdrv",
    "vmmon": "VMware: close its machines, modprobe -r vmnet vmmon",
}

# Modules that run guests without VMX or SVM.
_PARAVIRTUAL = ("kvm_pvm",)
_MARKETING = {"svm": "SVM Mode (AMD-V)", "vmx": "Intel Virtualization Technology (VT-x)"}


@dataclass(frozen=True)
class Case:
    """A way in which a host's KVM is of no use here; the words in braces are filled in for the host."""

    expected: str
    found: str
    advice: str


@dataclass(frozen=True)
class Obstacle:
    """A case, by its name in CASES, as it is on this host."""

    case: str
    expected: str
    found: str
    advice: str


_EXTENSION = "{flag} among the flags in /proc/cpuinfo"
_OUTER = "turn nested virtualization on, for this machine, in the hypervisor that runs it"
_NESTING = "a KVM that gives {extension} to its guests"
_DMESG = "`dmesg | grep -i kvm` says what the kernel thinks of it"
_AGAIN = "; `harness doctor --engine kvm` tries again"  # what a boot showed is remembered until the host is booted
_TURN_ON = (
    "with no VM running: modprobe -r {module} && modprobe {module} nested=1; for every boot: "
    "echo 'options {module} nested=1' > /etc/modprobe.d/kvm-nested.conf; where KVM is built into the kernel: "
    "{module}.nested=1 on its command line"
)

CASES: Mapping[str, Case] = {
    "off in firmware": Case(
        _EXTENSION,
        "the CPUs have no {extension}, or the firmware has locked it off",
        "switch {marketing} on in the firmware's setup; `dmesg | grep BIOS` says when Linux found it locked",
    ),
    "not given to this host": Case(
        _EXTENSION, "this host is itself a guest ({hypervisor}), and its CPUs have no {extension}", _OUTER
    ),
    "no module": Case(
        "{device}, which {module} makes",
        "{device} is absent: {module} is not loaded{rivals}",
        # Since 6.12 KVM turns virtualization on when it is loaded (kvm.enable_virt_at_load), and a CPU on which it
        # is on already makes the load fail: kvm_online_cpu() has EIO for svm_enable_virtualization_cpu()'s EBUSY.
        "modprobe {module}; when that fails with EIO and dmesg says `kvm: enabling virtualization on CPU… failed`, "
        "another hypervisor has {extension}. {unload}",
    ),
    "no node": Case(
        "{device}, a node for the KVM that this kernel has",
        "{device} is absent, although KVM has registered its device",
        "in a container: --device /dev/kvm; elsewhere: mknod /dev/kvm c {numbers}",
    ),
    "no permission": Case(
        "to read and write {device}",
        "permission denied: {device} is {mode}",
        "{admit}, and log in again; in a container: --group-add with the group's number",
    ),
    "kept out": Case(
        "to open {device}",
        "{device}: {errno}: a container or a service keeps its processes from it",
        "in a container: --device /dev/kvm; in a service of systemd: DeviceAllow=/dev/kvm rw",
    ),
    "does not open": Case("to open {device}", "{device}: {errno}", _DMESG),
    "not KVM's": Case(
        "version 12 of KVM's API behind {device}",
        "{device} answers KVM_GET_API_VERSION with {answer}",
        "`ls -l {device}` should show a character device 10, 232",
    ),
    "busy": Case(
        "a VM from KVM_CREATE_VM",
        "KVM_CREATE_VM: {errno}: {extension} cannot be turned on, as when another hypervisor has done so{rivals}",
        "{unload}; dmesg says `kvm: enabling virtualization on CPU… failed` of each CPU that refused",
    ),
    "no VM": Case("a VM from KVM_CREATE_VM", "KVM_CREATE_VM: {errno}", _DMESG),
    "nesting off": Case(_NESTING, "{module} is loaded with nested={nested}", _TURN_ON),
    "paravirtual": Case(
        _NESTING,
        "KVM here is {provider}: its guests have no {extension}, and run only kernels that are made for it",
        "boot a kernel of this host that loads {module}; the CPUs need {extension} for that: " + _OUTER,
    ),
    "no nesting": Case(
        _NESTING,
        "KVM_GET_SUPPORTED_CPUID has no {extension}, although {module} has nested={nested}",
        "`dmesg | grep -i kvm` says what {module} missed; " + _OUTER,
    ),
    # What only a boot shows: harness/machine/proof.py.
    "QEMU ended": Case(
        "QEMU to run a guest with -accel kvm -cpu {cpu}",
        "{ending}{said}",
        "KVM and QEMU disagree about the CPU: update this host's kernel{below}; HARNESS_QEMU=PATH tries another QEMU"
        + _AGAIN,
    ),
    "no kernel runs": Case(
        "a guest's kernel that prints",
        "KVM creates VMs, but no kernel prints anything in {seconds:.0f} s: {ending}",
        "update this host's kernel{below}; " + _DMESG + _AGAIN,
    ),
    "no virtualization": Case(
        "{module} to turn {extension} on in a guest",
        "{ending}; the guest's last line: {line}",
        "nesting should be on. " + _TURN_ON + _AGAIN,
    ),
    "not ready": Case(
        "a guest that is ready within {seconds:.0f} s",
        "{ending}; the guest's last line: {line}",
        "a guest takes seconds: see what else runs on this host, or have HARNESS_PATIENCE=4 wait longer" + _AGAIN,
    ),
}


@dataclass(frozen=True)
class KvmHost:
    """A host as far as its KVM is concerned. Other paths than these are for hosts that were recorded."""

    cpu: HostCpu
    hypervisor: str  # that runs this host; "" on bare metal
    device: Path = KVM_DEVICE
    sys: Path = Path("/sys")

    def parameter(self, module: str, name: str) -> str:
        """A parameter of a module, as sysfs has it; "" when there is no such module or parameter."""
        path = self.sys / "module" / module / "parameters" / name
        return path.read_text().strip() if path.exists() else ""

    def has(self, module: str) -> bool:
        """Whether the module is loaded, or built in with parameters."""
        return (self.sys / "module" / module).exists()

    @property
    def numbers(self) -> str:
        """Major and minor number of KVM's device, as mknod wants them; "" while none is registered."""
        path = self.sys / "class/misc/kvm/dev"
        return path.read_text().strip().replace(":", " ") if path.exists() else ""

    def obstacle(self, case: str, extension: Extension, **words: object) -> Obstacle:
        """The case on this host. `words` are those that its text has in braces and only the caller knows."""
        row, known = CASES[case], {**self._words(extension), **words}
        return Obstacle(case, *(text.format(**known) for text in (row.expected, row.found, row.advice)))

    def _words(self, extension: Extension) -> dict[str, str]:
        rivals = [module for module in RIVALS if self.has(module)]
        return {
            "device": str(self.device),
            "module": extension.module,
            "extension": extension.name.upper(),
            "flag": extension.name,
            "marketing": _MARKETING[extension.name],
            "hypervisor": self.hypervisor,
            "below": f", and the hypervisor that runs this host ({self.hypervisor})" if self.hypervisor else "",
            "nested": self.parameter(extension.module, "nested"),
            "provider": next((name for name in _PARAVIRTUAL if self.has(name)), ""),
            "rivals": "".join(f"; {module} is loaded" for module in rivals),
            "unload": "; ".join(RIVALS[module] for module in rivals) or "A boot of this host ends what it was",
        }


def this_kvm_host() -> KvmHost:
    """This host."""
    cpu = host_cpu()
    return KvmHost(cpu, hypervisor(cpu.flags))


def look(extension: Extension, host: KvmHost) -> Obstacle | None:
    """What keeps `host` from giving its guests `extension`; None when only a boot can tell."""
    try:
        device = os.open(host.device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return _not_opened(error, extension, host)
    try:
        return _without_vms(device, extension, host) or without_nesting(_supported_cpuid(device), extension, host)
    finally:
        os.close(device)


def without_nesting(cpuid: bytes, extension: Extension, host: KvmHost) -> Obstacle | None:
    """The obstacle of a KVM that gives its guests no extension: the module's parameter, or what is beneath it.

    `cpuid` is what guests' CPUs can have, an array of struct kvm_cpuid_entry2.
    """
    if _gives(cpuid, extension):
        return None
    if host.parameter(extension.module, "nested") in OFF:
        return host.obstacle("nesting off", extension)
    if not host.has(extension.module) and any(map(host.has, _PARAVIRTUAL)):
        return host.obstacle("paravirtual", extension)
    return host.obstacle("no nesting" if extension.name in host.cpu.flags else _by_whom(host), extension)


def _gives(cpuid: bytes, extension: Extension) -> bool:
    """Whether guests can have the extension by KVM_GET_SUPPORTED_CPUID."""
    leaf, bit = extension.cpuid
    return any(
        function == leaf and bool(ecx >> bit & 1)
        for function, _index, _flags, _eax, _ebx, ecx, _edx in _CPUID_ENTRY.iter_unpack(cpuid)
    )


def _not_opened(error: OSError, extension: Extension, host: KvmHost) -> Obstacle:
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        if host.numbers:
            return host.obstacle("no node", extension, numbers=host.numbers)
        return host.obstacle("no module" if extension.name in host.cpu.flags else _by_whom(host), extension)
    if error.errno == errno.EACCES:
        return host.obstacle("no permission", extension, **_access(host.device))
    return host.obstacle("kept out" if error.errno == errno.EPERM else "does not open", extension, errno=_told(error))


def _by_whom(host: KvmHost) -> str:
    """The case of CPUs without the extension: whose doing that is."""
    return "not given to this host" if host.hypervisor else "off in firmware"


def _access(device: Path) -> dict[str, str]:
    """Who may use the device, and how more may."""
    try:
        status = device.stat()
    except OSError:
        return {"mode": "in a folder that lets nobody in", "admit": f"open {device.parent} to this user"}
    mode = (
        f"{stat.filemode(status.st_mode)} {_name(device.owner, status.st_uid)} {_name(device.group, status.st_gid)}"
    )
    if status.st_gid and status.st_mode & 0o060 == 0o060:
        return {"mode": mode, "admit": f"adduser $USER {_name(device.group, status.st_gid)}"}
    return {"mode": mode, "admit": f"chgrp kvm {device} && chmod 660 {device} && adduser $USER kvm"}


def _name(of: Callable[[], str], number: int) -> str:
    """A user's or group's name; its number where it has none, as in containers."""
    try:
        return of()
    except KeyError:
        return str(number)


def _without_vms(device: int, extension: Extension, host: KvmHost) -> Obstacle | None:
    """The obstacle of a device that is not KVM's, or of a KVM that makes no VM."""
    try:
        version = fcntl.ioctl(device, _GET_API_VERSION, 0)
    except OSError as error:
        return host.obstacle("not KVM's", extension, answer=_told(error))
    if version != _API_VERSION:
        return host.obstacle("not KVM's", extension, answer=f"version {version}")
    try:
        os.close(fcntl.ioctl(device, _CREATE_VM, 0))
    except OSError as error:
        # EBUSY up to 6.11; since then a CPU hotplug callback turns virtualization on, with EIO for every failure.
        case = "busy" if error.errno in (errno.EBUSY, errno.EIO) else "no VM"
        return host.obstacle(case, extension, errno=_told(error))
    return None


def _supported_cpuid(device: int) -> bytes:
    """What guests' CPUs can have, as an array of struct kvm_cpuid_entry2; empty where KVM does not tell."""
    buffer = bytearray(8 + _CPUID_ENTRIES * _CPUID_ENTRY.size)
    struct.pack_into("<I", buffer, 0, _CPUID_ENTRIES)
    with contextlib.suppress(OSError):
        fcntl.ioctl(device, _GET_SUPPORTED_CPUID, buffer)
        (count,) = struct.unpack_from("<I", buffer)
        return bytes(buffer[8 : 8 + count * _CPUID_ENTRY.size])
    return b""


def _told(error: OSError) -> str:
    """EBUSY (Device or resource busy)."""
    return f"{errno.errorcode.get(error.errno or 0, error.errno)} ({error.strerror})"
