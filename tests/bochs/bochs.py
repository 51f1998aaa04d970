"""Bochs, the other emulator: Debian's 2.7, unpacked into the cache, and its runs from a boot CD.

It has VMX of its own, written by other people, with nothing of QEMU or of harness/platform in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from harness import process
from harness.cache import locked
from harness.deadline import Deadline
from harness.debian import Archive
from harness.errors import HostFault
from harness.machine.bell import Bell
from harness.machine.qemu import QemuProcess
from harness.paths import cache_dir

_SUITE = "bookworm"  # Bochs 2.7; what its VMX does was compared with this version
# bochs-term is its smallest display (bochs wants one), and opens no port as `rfb` does.
_PACKAGES = ("bochs", "bochs-term", "bochsbios", "vgabios", "isolinux", "syslinux-common", "xorriso")
_LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")

# kernel, initrd, kernel command line, the console's last line, a folder, a deadline; returns what the console said
Run: TypeAlias = Callable[[Path, Path, str, str, Path, Deadline], str]

CPUS = 2
_MEMORY_MIB = 512
# An Ice Lake has EPT, VPID, unrestricted guest and VMCS shadowing: what KVM would use of the emulated platform.
_MODEL = "corei7_icelake_u"
# Emulated instructions per emulated second. Fewer make waits of the BIOS and of the guest's printing shorter, more
# make the timer's interrupts rarer. Measured, to a guest that has loaded KVM: 100 million 114 s, 20 million 86 s.
_IPS = 20_000_000

_BOCHSRC = """\
config_interface: textconfig
display_library: term
cpu: model={model}, count={cpus}, ips={ips}, reset_on_triple_fault=0
megs: {memory}
romimage: file={root}/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file={root}/usr/share/vgabios/vgabios.bin
ata0-master: type=cdrom, path={cd}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={serial}
log: {log}
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
clock: sync=none, time0=1700000000
sound: waveoutdrv=dummy
speaker: enabled=0
"""

# What the kernel needs on this machine, besides being quiet (each character takes an emulated 87 µs):
_CMDLINE = (
    "console=ttyS0",
    "quiet",
    "nokaslr",
    "cryptomgr.notests",
    "no_timer_check",
    "noxsave",  # Bochs's XSAVE areas are not in the order that Linux expects: three warnings
    "idle=halt",  # with MWAIT, an idle CPU takes most of the emulator's time: 86 s instead of 61 s
)

_ISOLINUX = """\
DEFAULT linux
PROMPT 0
LABEL linux
 KERNEL /vmlinuz
 INITRD /initrd
 APPEND {cmdline}
"""


@dataclass(frozen=True)
class Bochs:
    """Bochs and the programs around it, below `root`, started through the C library that came with them."""

    root: Path

    def program(self, name: str) -> list[str]:
        """The words that start usr/bin/`name`."""
        libraries = [str(self.root / folder) for folder in _LIBRARIES]
        loader = f"{libraries[0]}/ld-linux-x86-64.so.2"
        return [loader, "--library-path", ":".join(libraries), str(self.root / "usr/bin" / name)]

    @property
    def environment(self) -> list[str]:
        """NAME=VALUE: where Bochs finds its files and its devices, which are plugins."""
        plugins = self.root / _LIBRARIES[1] / "bochs/plugins"
        return [f"BXSHARE={self.root}/usr/share/bochs", f"LTDL_LIBRARY_PATH={plugins}", "TERM=vt100"]


def find(deadline: Deadline) -> Bochs:
    """Debian's Bochs, unpacked into the cache (183 packages with GTK, which it links; 77 MB, 11 s here).

    Raises HostFault when it is not there and cannot be fetched.
    """
    root = cache_dir() / "bochs" / _SUITE
    with locked(root.with_suffix(".lock"), deadline):
        if not root.is_dir():
            Archive().unpack_with_dependencies(_PACKAGES, _SUITE, root, deadline)
    return Bochs(root)


def run(kernel: Path, initrd: Path, cmdline: str, last_line: str, folder: Path, deadline: Deadline) -> str:
    """Boots `kernel` with `initrd` in Bochs until its serial console says `last_line`; returns what it said.

    serial.log and bochs.log are written into `folder`, which exists. Raises HostFault for a Bochs that ends before.
    """
    bochs = find(deadline)
    cd = _burn(bochs, kernel, initrd, " ".join((*_CMDLINE, cmdline)), folder, deadline)
    try:
        with _started(bochs, cd, folder) as child:
            return _wait(child, last_line, folder, deadline)
    finally:
        cd.unlink()


def _burn(bochs: Bochs, kernel: Path, initrd: Path, cmdline: str, folder: Path, deadline: Deadline) -> Path:
    """A CD that boots: Bochs has no other way to a kernel."""
    config, cd = folder / "isolinux.cfg", folder / "boot.iso"
    config.write_text(_ISOLINUX.format(cmdline=cmdline))
    files = {
        "vmlinuz": kernel,
        "initrd": initrd,
        "isolinux/isolinux.cfg": config,
        "isolinux/isolinux.bin": bochs.root / "usr/lib/ISOLINUX/isolinux.bin",
        "isolinux/ldlinux.c32": bochs.root / "usr/lib/syslinux/modules/bios/ldlinux.c32",
    }
    # isolinux finds itself by a table that is written into its file, on the CD.
    boot = ["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4"]
    options = ["-as", "mkisofs", "-quiet", "-o", str(cd), *boot, "-boot-info-table", "-graft-points"]
    process.run([*bochs.program("xorriso"), *options, *(f"{to}={path}" for to, path in files.items())], deadline)
    return cd


@contextlib.contextmanager
def _started(bochs: Bochs, cd: Path, folder: Path) -> Iterator[QemuProcess]:
    settings, commands = folder / "bochsrc", folder / "debugger.rc"
    settings.write_text(
        _BOCHSRC.format(
            root=bochs.root,
            cd=cd,
            serial=folder / "serial.log",
            log=folder / "bochs.log",
            model=_MODEL,
            cpus=CPUS,
            ips=_IPS,
            memory=_MEMORY_MIB,
        )
    )
    commands.write_text("continue\n")  # Debian's build stops in its debugger first
    words = ["env", *bochs.environment, *bochs.program("bochs-bin"), "-q", "-f", str(settings), "-rc", str(commands)]
    child = QemuProcess(words, folder / "display.log", (), Bell())
    try:
        yield child
    finally:
        child.kill()


def _wait(child: QemuProcess, last_line: str, folder: Path, deadline: Deadline) -> str:
    while True:
        ended = child.wait(min(0.5, deadline.remaining()))
        text = _text(folder / "serial.log")
        if last_line in text.splitlines():
            return text
        if ended:
            raise HostFault(
                f"Bochs ended: {child.ending()}",
                expected=f"the line {last_line!r} on its serial console",
                evidence=process.tail(text + _text(folder / "bochs.log")),
            )
        deadline.check(process.tail(text))


def _text(path: Path) -> str:
    """The file with plain line ends; empty while there is none."""
    return path.read_text(errors="replace").replace("\r", "") if path.exists() else ""
