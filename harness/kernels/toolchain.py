"""The compiler that a Debian kernel was built with: the host's, or one unpacked from the kernel's own release.

A module has to be compiled with the flags of its kernel, and kbuild wrote those down for one compiler: 7.3's
configuration (gcc 14) asks for -fmin-function-alignment, which gcc 12 refuses, and its objtool and modpost want
glibc 2.38, which Debian 12 does not have. So a compiler and a C library of the right release are unpacked into the
cache and run through their own dynamic loader.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness import paths, process, progress
from harness.cache import locked, staged_dir
from harness.deadline import Deadline
from harness.debian import Archive, Package

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LOADER = f"{_LIBRARIES}/ld-linux-x86-64.so.2"


@dataclass(frozen=True)
class Toolchain:
    """How to call make so that it compiles for a kernel."""

    compiler: str  # of CC: gcc-12, or a path
    environment: Mapping[str, str] = field(default_factory=dict)
    sysroot: Path | None = None  # of the foreign C library; None when the host's own programs are used

    @property
    def make_arguments(self) -> list[str]:
        return [f"CC={'ccache ' if shutil.which('ccache') else ''}{self.compiler}"]

    def describe(self, deadline: Deadline) -> str:
        """The first line of `gcc --version`, for provenance."""
        return process.run([self.compiler, "--version"], deadline, env=self.environment).partition("\n")[0]

    def adopt(self, programs: Iterable[Path]) -> None:
        """Makes `programs` run with the foreign C library; those that are adopted already are left alone."""
        if self.sysroot is not None:
            for program in programs:
                _wrap(program, program, self.sysroot)


def toolchain_for(config: Mapping[str, str], kbuild: Package, kbuild_program: Path, deadline: Deadline) -> Toolchain:
    """The toolchain of a Debian kernel with `config`.

    `kbuild` is its linux-kbuild package and `kbuild_program` a program of it, run to see whether the host can.
    """
    gcc = f"gcc-{int(config['CONFIG_GCC_VERSION']) // 10000}"
    if shutil.which(gcc) and _runs(kbuild_program, deadline):
        return Toolchain(gcc)
    sysroot = paths.cache_dir() / "toolchains" / f"{gcc}-{kbuild.release.name}"
    with locked(sysroot.with_suffix(".lock"), deadline):
        if not sysroot.is_dir():
            progress.note(
                f"{gcc} or the C library of Debian {kbuild.release.name} is not on this host: unpacking both"
            )
            _unpack(sysroot, [gcc, kbuild.name], kbuild.suite, deadline)
    programs = sysroot / "usr/bin"
    path = f"{programs}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return Toolchain(str(programs / f"x86_64-linux-gnu-{gcc}"), {"PATH": path}, sysroot)


def _runs(program: Path, deadline: Deadline) -> bool:
    """Whether the host's loader can start `program`; what it then says to its empty command line does not matter."""
    try:
        process.run([program], deadline)
    except process.ProcessFailed as error:
        return "GLIBC_" not in error.output
    return True


def _unpack(sysroot: Path, names: list[str], suite: str, deadline: Deadline) -> None:
    archive = Archive()
    packages = archive.closure(names, suite, deadline)
    with staged_dir(sysroot) as stage, progress.task(f"unpack {names[0]} of Debian {suite}"):
        root = stage / "root"
        archive.unpack(packages, root, deadline)
        for child in list(root.iterdir()):
            child.rename(stage / child.name)
        root.rmdir()
        for folder in (stage / "usr/bin", *stage.glob("usr/libexec/gcc/x86_64-linux-gnu/*")):
            for program in folder.iterdir():
                _wrap(program, sysroot / program.relative_to(stage), sysroot)


def _wrap(program: Path, home: Path, sysroot: Path) -> None:
    """Puts a script in the place of an ELF program, which starts it through the loader of `sysroot`.

    `home` is where `program` will be when it runs. --argv0 keeps the name that gcc finds its own directory by.
    """
    if program.is_symlink() or not program.is_file() or program.suffix in (".elf", ".so"):
        return
    with program.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return
    program.rename(program.with_name(program.name + ".elf"))
    loader = f"{sysroot}/{_LOADER} --library-path {sysroot}/{_LIBRARIES}"
    program.write_text(f'#!/bin/sh\nexec {loader} --argv0 "$0" {home}.elf "$@"\n')
    program.chmod(0o755)
