"""Which QEMU is run: the host's when it is of the pinned series, else Debian's, unpacked into the cache."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import paths, process, progress
from harness.cache import NotInCache, locked, require_making
from harness.deadline import Deadline
from harness.debian import Archive
from harness.errors import HostFault, UsageError

# One series, because what a guest sees depends on it: with 7.2 a nested guest under emulated SVM oopses early, and
# 11.1 is the first whose TCG plugins can take over an instruction (plugin API version 7).
SERIES = "11.1"
PROGRAM = "qemu-system-x86_64"

_SUITE = "trixie-backports"
# Without the suite's firmware package the q35 machine has no BIOS: qemu-system-x86 only recommends seabios.
_PACKAGES = (f"qemu-system-x86=1:{SERIES}.*", "seabios")
_LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
_FIRMWARE = (Path("usr/share/qemu"), Path("usr/share/seabios"))
_UNPACK_S = 300.0  # 30 MB to fetch on a slow line; measured: 4 s with a near mirror
_VERSION_S = 20.0

_VERSION = re.compile(r"QEMU emulator version (\d+\.\d+\.\d+)")


@dataclass(frozen=True)
class Qemu:
    """A QEMU that can be started: `argv_prefix` goes before the machine's own arguments."""

    argv_prefix: tuple[str, ...]
    version: str  # "11.1.3"
    origin: str  # for people: where it came from

    @property
    def fits(self) -> bool:
        """Whether it is of the series that everything here was measured with."""
        return self.version.startswith(f"{SERIES}.")


def find(deadline: Deadline) -> Qemu:
    """The QEMU to use: $HARNESS_QEMU, else the system's if it is of the pinned series, else Debian's from the cache.

    Raises UsageError when $HARNESS_QEMU is not a QEMU, HostFault when Debian's cannot be had.
    """
    chosen = os.environ.get("HARNESS_QEMU")
    if chosen:
        return _chosen(chosen, deadline)
    system = shutil.which(PROGRAM)
    if system:
        qemu = _probe((system,), f"the system's {system}", deadline)
        if qemu is not None and qemu.fits:
            return qemu
    return _cached(deadline)


def foreseen() -> Qemu:
    """The QEMU that `find` would return, in `reading_only`: where that is not there yet, what would be unpacked."""
    try:
        return find(Deadline.after(_VERSION_S, "looking for QEMU"))
    except NotInCache:
        return Qemu((PROGRAM,), f"{SERIES}.0", f"Debian {_SUITE}, which would be unpacked first")


def _chosen(path: str, deadline: Deadline) -> Qemu:
    """What the user named is used whatever its version; they asked for it."""
    qemu = _probe((path,), f"$HARNESS_QEMU: {path}", deadline)
    if qemu is None:
        raise UsageError(
            "$HARNESS_QEMU does not name a working QEMU",
            expected=f"a {PROGRAM} that answers --version",
            found=path,
            hint=f"unset it to use QEMU {SERIES} from Debian {_SUITE}",
        )
    return qemu


def _probe(argv_prefix: Sequence[str], origin: str, deadline: Deadline) -> Qemu | None:
    """Asks the program for its version; None when it does not answer like QEMU."""
    try:
        output = process.run([*argv_prefix, "--version"], deadline.sooner(_VERSION_S, "qemu --version"))
    except (HostFault, OSError):
        return None
    match = _VERSION.search(output)
    return Qemu(tuple(argv_prefix), match[1], origin) if match else None


def _cached(deadline: Deadline) -> Qemu:
    root = paths.cache_dir() / "qemu" / SERIES
    with locked(root.with_suffix(".lock"), deadline):
        if root.is_dir():
            qemu = _unpacked(root, deadline)
            if qemu is not None:
                return qemu
            progress.note(f"the QEMU in {root} does not start: unpacking it again")
        require_making(f"QEMU {SERIES}")
        with progress.task(f"unpack QEMU {SERIES} from Debian {_SUITE}"):
            _unpack(root, deadline.sooner(_UNPACK_S, f"unpacking QEMU {SERIES}"))
        return _unpacked(root, deadline) or _unusable(root)


def _unpack(root: Path, deadline: Deadline) -> None:
    try:
        Archive().unpack_with_dependencies(_PACKAGES, _SUITE, root, deadline)
    except UsageError as error:
        raise HostFault(
            f"Debian {_SUITE} has no QEMU {SERIES} any more, and no other series is known to behave",
            hint=f"install QEMU {SERIES} on this host, or name one in $HARNESS_QEMU",
            evidence=error.evidence,
        ) from error


def _unpacked(root: Path, deadline: Deadline) -> Qemu | None:
    """The QEMU in `root`, started through the C library that was unpacked with it: the host's may be older."""
    libraries = root / _LIBRARIES
    firmware = [word for folder in _FIRMWARE for word in ("-L", str(root / folder))]
    prefix = (
        str(libraries / "ld-linux-x86-64.so.2"),
        "--library-path",
        str(libraries),
        str(root / "usr/bin" / PROGRAM),
        *firmware,
    )
    return _probe(prefix, f"Debian {_SUITE}, unpacked in {root}", deadline)


def _unusable(root: Path) -> Qemu:
    raise HostFault(
        f"QEMU {SERIES} was unpacked but does not start",
        expected=f"{root / 'usr/bin' / PROGRAM} --version to answer",
        hint=f"is {root} on a file system mounted noexec? Set $HARNESS_CACHE elsewhere",
    )
