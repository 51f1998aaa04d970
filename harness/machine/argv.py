"""The QEMU command line of a machine, as a pure function, in groups that say what they are for."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UsageError
from harness.machine.engine import Engine
from harness.machine.toolchain import Qemu
from harness.platform.config import PlatformConfig

TRACE_PORT = "harness.trace"  # /dev/virtio-ports/ in the guest; what is written there ends up in TRACE_LOG
TRACE_LOG = "trace.txt"

BASE_CMDLINE = (
    "console=ttyS0",  # the only console: what is not on it, nobody saw
    "nokaslr",  # addresses in registers and probes mean something without asking the guest
    # Self-tests of the crypto API: 0.5 of the 5.2 CPU seconds of a boot under TCG, and no claim is about them.
    "cryptomgr.notests",
    "panic=0",  # stand still after a panic: with a reboot, a panic and a reset would look alike
    # A busy host starves vCPUs. These keep that from looking like a fault of the kernel: the timer check panics
    # when the ticks come late ("IO-APIC + timer doesn't work", seen at load 12 on 2 cores), the watchdogs warn.
    "no_timer_check",
    "watchdog_thresh=60",
    "rcupdate.rcu_cpu_stall_timeout=120",
)


@dataclass(frozen=True)
class Disk:
    """A raw image as the next /dev/vdX."""

    image: Path
    readonly: bool


@dataclass(frozen=True)
class Share:
    """A folder of the host that the guest can mount: 9p, by its tag."""

    tag: str
    folder: Path
    readonly: bool


@dataclass(frozen=True)
class MachineSpec:
    """The machine that a scenario asks for. Raises UsageError for one that cannot be built."""

    cpus: int = 4
    max_cpus: int = 0  # with those that are plugged in later; 0: none are
    sockets: int = 1  # of `cpus`; TDX configures keys once per package
    memory_mib: int = 512  # Debian's kernel, an initramfs of 30 MB, and a crash kernel fit
    cmdline: str = ""  # after BASE_CMDLINE
    kexec_disks: bool = False  # the kernel image as /dev/vda and the initramfs as /dev/vdb, read-only
    disks: tuple[Disk, ...] = ()
    shares: tuple[Share, ...] = ()
    cpu_model: str = ""  # as scenarios name them, on an engine that can choose one
    without_virt: int = 0  # how many of the last CPUs lack the engine's extension
    platform: PlatformConfig = field(default_factory=PlatformConfig)  # on an engine with the emulated platform

    def __post_init__(self) -> None:
        if self.cpus < 1 or self.sockets < 1 or self.cpus % self.sockets:
            raise UsageError(
                "a machine's CPUs fill its sockets",
                expected="cpus: a multiple of sockets, at least 1",
                found=f"cpus: {self.cpus}, sockets: {self.sockets}",
            )
        if self.max_cpus and self.max_cpus < self.cpus:
            raise UsageError("max_cpus counts cpus too", expected=f">= {self.cpus}", found=str(self.max_cpus))
        if not 0 <= self.without_virt < self.cpus:
            found = str(self.without_virt)
            raise UsageError(
                "a CPU with virtualization is needed", expected=f"without_virt < {self.cpus}", found=found
            )
        if self.memory_mib < 128:
            raise UsageError(
                "too little memory to boot", expected="memory_mib: at least 128", found=str(self.memory_mib)
            )

    @property
    def hotplug(self) -> bool:
        """Whether vCPUs can be plugged in."""
        return self.max_cpus > self.cpus

    @property
    def cpus_without_virt(self) -> range:
        """The CPUs that lack the engine's extension."""
        return range(self.cpus - self.without_virt, self.cpus)

    @property
    def topology(self) -> str:
        """The value of -smp. CPUs to be plugged in come in sockets of their own, as many as that takes.

        Since 6.9 kernels on bare metal take a hot-pluggable CPU in a package with present ones for a fault of the
        firmware (arch/x86/kernel/cpu/topology.c, topology_register_apic).
        """
        cores = self.cpus // self.sockets
        sockets = max(self.sockets, -(-self.max_cpus // cores))
        plain = self.cpus - self.without_virt  # the others are devices of their own
        return f"{plain},maxcpus={sockets * cores},sockets={sockets},cores={cores},threads=1"


@dataclass(frozen=True)
class BootFiles:
    """What is booted, and the bzImage that kexec takes, which may be another file; absolute paths."""

    kernel: Path
    initrd: Path
    kexec: Path | None = None

    def absolute(self) -> BootFiles:
        return BootFiles(self.kernel.absolute(), self.initrd.absolute(), self.kexec and self.kexec.absolute())


@dataclass(frozen=True)
class Wiring:
    """The host's ends of the console and of QMP: chardev backends without their id; and of the emulated platform."""

    console: str
    qmp: str
    platform: tuple[str, ...] = ()  # the words that load its plugin


# For a person: the console is the terminal, and QMP is a socket in the current directory.
BY_HAND = Wiring(console="stdio,signal=off", qmp="socket,path=qmp.sock,server=on,wait=off")


def inherited(console_fd: int, qmp_fd: int, platform: tuple[str, ...] = ()) -> Wiring:
    """Connected sockets that QEMU inherits: no path to clash, to exceed 108 bytes, or to be left behind."""
    return Wiring(f"socket,fd={console_fd}", f"socket,fd={qmp_fd}", platform)


@dataclass(frozen=True)
class Group:
    """Arguments that belong together, and why they are there."""

    why: str
    words: tuple[str, ...]


def kernel_cmdline(spec: MachineSpec) -> str:
    return " ".join((*BASE_CMDLINE, *spec.cmdline.split()))


def groups(spec: MachineSpec, engine: Engine, files: BootFiles, run: Path, wiring: Wiring) -> tuple[Group, ...]:
    """The arguments after QEMU itself. `run` is the run's folder, absolute: console.log and TRACE_LOG go there."""
    return (
        Group(
            "nothing that is not asked for",
            ("-nodefaults", "-no-user-config", "-display", "none", "-msg", "timestamp=on"),
        ),
        Group(
            "S3 and ACPI hot-plug; on q35 the ACPI registers stay unmapped after S3, and both work only until then",
            ("-machine", "pc", "-global", "PIIX4_PM.disable_s3=0"),
        ),
        *_engine(spec, engine),
        *_platform(engine, wiring),
        Group("CPUs and memory", ("-smp", spec.topology, "-m", f"{spec.memory_mib}M", *_odd_cpus(spec, engine))),
        Group(
            "the kernel under test",
            ("-kernel", str(files.kernel), "-initrd", str(files.initrd), "-append", kernel_cmdline(spec)),
        ),
        Group(
            "a reset or power-off stops the machine with its registers intact, to be looked at",
            ("-action", "reboot=shutdown,shutdown=pause"),
        ),
        Group(
            "serial console; QEMU itself writes the log, so it is complete whatever happens to the harness. A guest "
            "from a snapshot has said something before",
            (
                *("-chardev", f"{wiring.console},id=console,logfile={_comma(run / 'console.log')},logappend=on"),
                *("-serial", "chardev:console"),
            ),
        ),
        Group("QMP", ("-chardev", f"{wiring.qmp},id=chr-qmp", "-object", "monitor-qmp,id=qmp,chardev=chr-qmp")),
        Group(
            "the tracer's way out, which needs neither network nor a living SSH server",
            (
                *("-chardev", f"file,id=trace,path={_comma(run / TRACE_LOG)}"),
                *("-device", "virtio-serial-pci", "-device", f"virtserialport,chardev=trace,name={TRACE_PORT}"),
            ),
        ),
        Group(
            "the tracer's way out when devices are already shut down: since 6.15 the kernel resets virtio ones first",
            (
                *("-chardev", f"file,id=last,path={_comma(run / 'trace-last.txt')}"),
                *("-serial", "chardev:last"),
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
        *_disks(spec),
        *_shares(spec),
    )


def argv(qemu: Qemu, parts: tuple[Group, ...]) -> list[str]:
    return [*qemu.argv_prefix, *(word for part in parts for word in part.words)]


def script(qemu: Qemu, parts: tuple[Group, ...]) -> str:
    """A shell script that starts the same machine by hand, one group per line and its reason above."""
    reasons = "".join(f"#   {part.why}\n" for part in parts)
    lines = [qemu.argv_prefix, *(part.words for part in parts if part.words)]
    command = " \\\n  ".join(shlex.join(line) for line in lines)
    return (
        "#!/bin/sh\n"
        "# The machine of this run, with the console on this terminal (QMP: ./qmp.sock).\n"
        f"# QEMU {qemu.version}, {qemu.origin}. Line by line:\n"
        f"{reasons}{command}\n"
    )


def _engine(spec: MachineSpec, engine: Engine) -> tuple[Group, ...]:
    why = f"engine {engine.label}"
    # Properties given to -cpu go for CPUs that are devices, and for those plugged in later, too.
    emulated = spec.platform.cpu.qemu_properties() if engine.emulated else ()
    cpu = ",".join((*engine.qemu_cpu(spec.cpu_model), *emulated))
    if not spec.hotplug or engine.known_to_linux:
        return (Group(why, ("-accel", engine.accel, "-cpu", cpu)),)
    return (
        Group(why, ("-accel", engine.accel, "-cpu", f"{cpu},hypervisor=off")),
        Group(
            # acpi_is_processor_usable() in arch/x86/kernel/acpi/boot.c; vmware_platform() without the CPUID bit
            # goes by the serial number and QEMU's vmport. Measured: 6.1, 6.12 and 7.3 plug and unplug with it only.
            "vCPU hot-plug: Linux counts absent CPUs only under a hypervisor that it knows, and of those QEMU can be "
            "taken for VMware's",
            ("-smbios", "type=1,serial=VMware-"),
        ),
    )


def _platform(engine: Engine, wiring: Wiring) -> tuple[Group, ...]:
    if not engine.emulated:
        return ()
    if wiring.platform:
        return (Group("what TCG lacks of VMX and TDX: a plugin, with the harness behind it", wiring.platform),)
    why = "left out here: the plugin with VMX and TDX, which needs the harness behind it; their instructions are #UD"
    return (Group(why, ()),)


def _kexec_disks(spec: MachineSpec, files: BootFiles) -> tuple[Group, ...]:
    if not spec.kexec_disks:
        return ()
    words: list[str] = []
    for name, path in (("kernel", files.kexec or files.kernel), ("initrd", files.initrd)):
        words += ["-drive", f"if=none,id={name},format=raw,readonly=on,file={_comma(path)}"]
        words += ["-device", f"virtio-blk-pci,drive={name}"]
    return (Group("what kexec loads: the kernel as /dev/vda, the initramfs as /dev/vdb", tuple(words)),)


def _disks(spec: MachineSpec) -> tuple[Group, ...]:
    words: list[str] = []
    for number, disk in enumerate(spec.disks):
        readonly = "on" if disk.readonly else "off"
        words += ["-drive", f"if=none,id=disk{number},format=raw,readonly={readonly},file={_comma(disk.image)}"]
        words += ["-device", f"virtio-blk-pci,drive=disk{number}"]
    return (Group("disks: /dev/vda and so on", tuple(words)),) if words else ()


def _shares(spec: MachineSpec) -> tuple[Group, ...]:
    words: list[str] = []
    for share in spec.shares:
        readonly = "on" if share.readonly else "off"
        # Nothing needs to be root's on the host: who owns a file there is the user that runs QEMU.
        how = f"security_model=none,multidevs=remap,readonly={readonly}"
        words += ["-fsdev", f"local,id={share.tag},path={_comma(share.folder)},{how}"]
        words += ["-device", f"virtio-9p-pci,fsdev={share.tag},mount_tag={share.tag}"]
    return (Group("folders of the host", tuple(words)),) if words else ()


def _odd_cpus(spec: MachineSpec, engine: Engine) -> list[str]:
    """The CPUs that lack the extension: -cpu goes for all, so these are devices of their own."""
    cores = spec.cpus // spec.sockets
    words: list[str] = []
    for cpu in spec.cpus_without_virt:
        place = f"socket-id={cpu // cores},core-id={cpu % cores},thread-id=0"
        words += ["-device", f"{engine.qemu_cpu(spec.cpu_model)[0]}-x86_64-cpu,{place},{engine.extension.name}=off"]
    return words


def _comma(path: Path) -> str:
    """QEMU's option syntax: a comma in a value is written twice."""
    return str(path).replace(",", ",,")
