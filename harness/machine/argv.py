"""The QEMU command line of a machine, as a pure function, in groups that say what they are for."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.machine.engine import Engine
from harness.machine.toolchain import Qemu

TRACE_PORT = "harness.trace"  # /dev/virtio-ports/ in the guest; what is written there ends up in trace.txt

BASE_CMDLINE = (
    "console=ttyS0",  # the only console: what is not on it, nobody saw
    "nokaslr",  # addresses in registers and probes mean something without asking the guest
    "panic=0",  # stand still after a panic: with a reboot, a panic and a reset would look alike
)


@dataclass(frozen=True)
class MachineSpec:
    """The machine that a scenario asks for. Raises UsageError for one that cannot be built."""

    cpus: int = 4
    max_cpus: int = 0  # sockets for vCPU hot-plug; 0: as many as cpus
    sockets: int = 1  # TDX configures keys once per package
    memory_mib: int = 512  # Debian's kernel, an initramfs of 30 MB, and a crash kernel fit
    cmdline: str = ""  # after BASE_CMDLINE
    kexec_disks: bool = False  # the kernel image as /dev/vda and the initramfs as /dev/vdb, read-only

    def __post_init__(self) -> None:
        if not 1 <= self.cpus <= self.possible_cpus:
            raise UsageError("machine.cpus", expected=f"1 to max_cpus ({self.possible_cpus})", found=str(self.cpus))
        if self.sockets < 1 or self.possible_cpus % self.sockets:
            raise UsageError(
                "machine.sockets", expected=f"a divisor of {self.possible_cpus} CPUs", found=str(self.sockets)
            )
        if self.memory_mib < 128:
            raise UsageError("machine.memory_mib", expected="at least 128", found=str(self.memory_mib))

    @property
    def possible_cpus(self) -> int:
        return self.max_cpus or self.cpus


@dataclass(frozen=True)
class BootFiles:
    """What is booted; absolute paths."""

    kernel: Path
    initrd: Path


@dataclass(frozen=True)
class Wiring:
    """The host's ends of the console and of QMP: chardev backends without their id."""

    console: str
    qmp: str


# For a person: the console is the terminal, and QMP is a socket in the current directory.
BY_HAND = Wiring(console="stdio,signal=off", qmp="socket,path=qmp.sock,server=on,wait=off")


def inherited(console_fd: int, qmp_fd: int) -> Wiring:
    """Connected sockets that QEMU inherits: no path to clash, to exceed 108 bytes, or to be left behind."""
    return Wiring(console=f"socket,fd={console_fd}", qmp=f"socket,fd={qmp_fd}")


@dataclass(frozen=True)
class Group:
    """Arguments that belong together, and why they are there."""

    why: str
    words: tuple[str, ...]


def kernel_cmdline(spec: MachineSpec) -> str:
    return " ".join((*BASE_CMDLINE, *spec.cmdline.split()))


def groups(spec: MachineSpec, engine: Engine, files: BootFiles, run: Path, wiring: Wiring) -> tuple[Group, ...]:
    """The arguments after QEMU itself. `run` is the run's folder, absolute: console.log and trace.txt go there."""
    return (
        Group(
            "nothing that is not asked for",
            ("-nodefaults", "-no-user-config", "-display", "none", "-msg", "timestamp=on"),
        ),
        Group(
            "S3 and ACPI hot-plug; on q35 SeaBIOS leaves the ACPI registers unmapped after S3, and both work just once",
            ("-machine", "pc", "-global", "PIIX4_PM.disable_s3=0"),
        ),
        Group(f"engine {engine.label}", ("-accel", engine.accel, "-cpu", engine.cpu)),
        Group("CPUs and memory", ("-smp", _topology(spec), "-m", f"{spec.memory_mib}M")),
        Group(
            "the kernel under test",
            ("-kernel", str(files.kernel), "-initrd", str(files.initrd), "-append", kernel_cmdline(spec)),
        ),
        Group(
            "a reset or power-off stops the machine with its registers intact, to be looked at",
            ("-action", "reboot=shutdown,shutdown=pause"),
        ),
        Group(
            "serial console; QEMU itself writes the log, so it is complete whatever happens to the harness",
            (
                *("-chardev", f"{wiring.console},id=console,logfile={_comma(run / 'console.log')}"),
                *("-serial", "chardev:console"),
            ),
        ),
        Group("QMP", ("-chardev", f"{wiring.qmp},id=chr-qmp", "-object", "monitor-qmp,id=qmp,chardev=chr-qmp")),
        Group(
            "the tracer's way out, which needs neither network nor a living SSH server",
            (
                *("-chardev", f"file,id=trace,path={_comma(run / 'trace.txt')}"),
                *("-device", "virtio-serial-pci", "-device", f"virtserialport,chardev=trace,name={TRACE_PORT}"),
            ),
        ),
        Group(
            "SSH: the kernel chooses the host's port, so that no two runs can clash; the guest gets no way out",
            (
                *("-netdev", "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"),
                *("-device", "virtio-net-pci,netdev=net0,romfile="),
            ),
        ),
        Group("entropy, so that the SSH server does not wait for it", ("-device", "virtio-rng-pci")),
        *_kexec_disks(spec, files),
    )


def argv(qemu: Qemu, parts: tuple[Group, ...]) -> list[str]:
    return [*qemu.argv_prefix, *(word for part in parts for word in part.words)]


def script(qemu: Qemu, parts: tuple[Group, ...]) -> str:
    """A shell script that starts the same machine by hand, one group per line and its reason above."""
    reasons = "".join(f"#   {part.why}\n" for part in parts)
    lines = [qemu.argv_prefix, *(part.words for part in parts)]
    command = " \\\n  ".join(shlex.join(line) for line in lines)
    return (
        "#!/bin/sh\n"
        "# The machine of this run, with the console on this terminal (QMP: ./qmp.sock).\n"
        f"# QEMU {qemu.version}, {qemu.origin}. Line by line:\n"
        f"{reasons}{command}\n"
    )


def _topology(spec: MachineSpec) -> str:
    cores = spec.possible_cpus // spec.sockets
    return f"{spec.cpus},maxcpus={spec.possible_cpus},sockets={spec.sockets},cores={cores},threads=1"


def _kexec_disks(spec: MachineSpec, files: BootFiles) -> tuple[Group, ...]:
    if not spec.kexec_disks:
        return ()
    words: list[str] = []
    for name, path in (("kernel", files.kernel), ("initrd", files.initrd)):
        words += ["-drive", f"if=none,id={name},format=raw,readonly=on,file={_comma(path)}"]
        words += ["-device", f"virtio-blk-pci,drive={name}"]
    return (Group("what kexec loads: the kernel as /dev/vda, the initramfs as /dev/vdb", tuple(words)),)


def _comma(path: Path) -> str:
    """QEMU's option syntax: a comma in a value is written twice."""
    return str(path).replace(",", ",,")
