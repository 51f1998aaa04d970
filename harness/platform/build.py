"""Compiles the TCG plugin that emulates the platform, for the QEMU that is used."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from harness import paths, process, progress
from harness.cache import locked, staged_dir
from harness.deadline import Deadline
from harness.errors import HostFault, UsageError

SOURCES = Path(__file__).parent / "plugin"
COMPILER = "gcc"
# ISO C11 with what Linux and GCC have beyond it; nothing but the two entry points is visible to QEMU.
FLAGS = ("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-pthread")

# QEMU 11.1 is the first with version 7 of the plugin API, and takes no other (its minimum is 7 too).
API = 7
_FIRST_QEMU = (11, 1)

_COMPILE_S = 120.0  # measured: 2 s
_VERSION_S = 20.0


def plugin(qemu_version: str, deadline: Deadline) -> Path:
    """The plugin's shared object for the QEMU of that version ("11.1.3"), compiled when the cache does not have it.

    Raises UsageError for a QEMU whose plugin API is too old, HostFault when there is no working compiler. A QEMU that
    is too new refuses the plugin itself, when it starts, and says so.
    """
    _check_version(qemu_version)
    entry = paths.cache_dir() / "plugin" / _key(_compiler(deadline))
    built = entry / "platform.so"
    with locked(entry.with_suffix(".lock"), deadline):
        if not built.is_file():
            with progress.task("compile the TCG plugin of the emulated platform"), staged_dir(entry) as stage:
                compile_c(sources(), stage / built.name, deadline, flags=("-fPIC", "-shared"))
    return built


def sources() -> list[Path]:
    """The plugin's C files."""
    return sorted(SOURCES.glob("*.c"))


def compile_c(files: Sequence[Path], program: Path, deadline: Deadline, *, flags: Sequence[str] = ()) -> None:
    """Compiles C files to one program or shared object, with warnings as errors."""
    words: list[str | Path] = [COMPILER, *FLAGS, f"-I{SOURCES}", *flags, *files, "-o", program]
    process.run(words, deadline.sooner(_COMPILE_S, f"compiling {program.name}"))


def _check_version(version: str) -> None:
    series = tuple(int(part) for part in version.split(".")[:2])
    if series < _FIRST_QEMU:
        raise UsageError(
            "this QEMU cannot run the emulated platform",
            expected=f"TCG plugin API {API}: QEMU {'.'.join(map(str, _FIRST_QEMU))} or later",
            found=f"QEMU {version}",
            hint="unset $HARNESS_QEMU to use the one that the harness unpacks",
        )


def _compiler(deadline: Deadline) -> str:
    try:
        return process.run([COMPILER, "--version"], deadline.sooner(_VERSION_S, f"{COMPILER} --version"))
    except HostFault as error:
        raise HostFault(
            "the emulated platform needs a C compiler", expected=COMPILER, hint="apt install gcc libc6-dev"
        ) from error


def _key(compiler: str) -> str:
    """Sources and compiler: what the shared object is made of."""
    digest = hashlib.sha256(f"{compiler}\n{FLAGS}".encode())
    for path in sorted(SOURCES.glob("*.[ch]")):
        digest.update(f"\n{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
