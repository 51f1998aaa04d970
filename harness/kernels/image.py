"""image:BZIMAGE+MODULES, a kernel that somebody else built."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernels.packaged import run_depmod
from harness.kernels.source import Recipe, Source
from harness.kernels.store import Parts
from harness.kernels.vmlinux import extract_vmlinux

# The setup header, Documentation/arch/x86/boot.rst: offset and struct format of the fields used here.
_MAGIC = (0x202, b"HdrS")
_KERNEL_VERSION = (0x20E, "<H")  # pointer to the release string, less 0x200

# CONFIG_IKCONFIG: a gzip stream between two markers, kernel/configs.c.
_IKCONFIG_BEGIN, _IKCONFIG_END = b"IKCFG_ST", b"IKCFG_ED"


class ImageSource(Source):
    scheme = "image"
    example = "image:/boot/vmlinuz+/lib/modules/6.12.0 (the modules may be left out)"

    def check(self, recipe: Recipe) -> None:
        if recipe != Recipe():
            raise self.refuse(
                "a built image is booted as it is", "use tree: or git: to build with patches or options"
            )
        bzimage, modules = self._paths()
        read_release(bzimage)
        _find_config(bzimage, modules)

    def identity(self, deadline: Deadline, *, update: bool) -> Mapping[str, object]:
        bzimage, modules = self._paths()
        with bzimage.open("rb") as file:
            image = hashlib.file_digest(file, "sha256").hexdigest()
        config = hashlib.sha256(_find_config(bzimage, modules)).hexdigest()
        return {"image": image, "config": config, "modules": _fingerprint(modules) if modules else ""}

    def make(self, identity: Mapping[str, object], recipe: Recipe, stage: Path, deadline: Deadline) -> Parts:
        bzimage, modules = self._paths()
        release = read_release(bzimage)
        shutil.copyfile(bzimage, stage / "bzImage")
        (stage / "config").write_bytes(_find_config(bzimage, modules))
        installed = f"lib/modules/{release}" if modules else None
        if modules and installed:
            # build and source point into the tree that it was built in
            shutil.copytree(
                modules, stage / installed, symlinks=True, ignore=shutil.ignore_patterns("build", "source")
            )
            run_depmod(stage / installed, deadline)
        return Parts(release, "bzImage", "config", installed, provenance={**identity, "path": str(bzimage)})

    def _paths(self) -> tuple[Path, Path | None]:
        """The image and the modules. A release may have a + in its name, so every + is tried."""
        if Path(self.rest).is_file():
            return Path(self.rest).resolve(), None
        splits = (i for i, character in enumerate(self.rest) if character == "+")
        for split in splits:
            image, modules = Path(self.rest[:split]), Path(self.rest[split + 1 :])
            if image.is_file() and modules.is_dir():
                return image.resolve(), modules.resolve()
        raise UsageError(
            f"{self.spec}: no such files",
            expected="image:BZIMAGE or image:BZIMAGE+MODULES, MODULES being a directory like lib/modules/6.12.0",
        )


def read_release(bzimage: Path) -> str:
    """`uname -r` of the kernel in `bzimage`, from its setup header. Raises UsageError when it is not a bzImage."""
    raw = bzimage.read_bytes()
    if raw[_MAGIC[0] : _MAGIC[0] + 4] != _MAGIC[1]:
        raise UsageError(f"{bzimage} is not an x86 bzImage", expected=f"{_MAGIC[1]!r} at offset {_MAGIC[0]:#x}")
    (pointer,) = struct.unpack_from(_KERNEL_VERSION[1], raw, _KERNEL_VERSION[0])
    start = pointer + 0x200
    return raw[start : raw.index(b"\0", start)].decode().split()[0]


def _find_config(bzimage: Path, modules: Path | None) -> bytes:
    """The kernel's .config from beside the image or the modules, else from inside the image."""
    release = read_release(bzimage)
    folders = [bzimage.parent, *([modules, modules / "build"] if modules else [])]
    # arch/x86/boot/bzImage lies four levels below the .config of its build
    places = [folder / name for folder in folders for name in (f"config-{release}", "config", ".config")]
    places += [bzimage.parents[3] / ".config"] if len(bzimage.parents) > 3 else []
    for place in places:
        if place.is_file():
            return place.read_bytes()
    config = _ikconfig(extract_vmlinux(bzimage))
    if config is None:
        raise UsageError(
            f"{bzimage}: the kernel's configuration cannot be found",
            expected="one of " + ", ".join(map(str, places)) + ", or CONFIG_IKCONFIG=y in the kernel",
        )
    return config


def _ikconfig(vmlinux: bytes) -> bytes | None:
    """The configuration that CONFIG_IKCONFIG=y puts into the kernel, or None."""
    begin, end = vmlinux.find(_IKCONFIG_BEGIN), vmlinux.find(_IKCONFIG_END)
    if begin < 0 or end < begin:
        return None
    return gzip.decompress(vmlinux[begin + len(_IKCONFIG_BEGIN) : end])


def _fingerprint(modules: Path) -> str:
    """Names, sizes and times of the modules: hashing 400 MB at every start would take a second."""
    digest = hashlib.sha256()
    for line in sorted(_stats(modules)):
        digest.update(line.encode())
    return digest.hexdigest()


def _stats(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            status = Path(parent, name).lstat()
            yield f"{parent}/{name} {status.st_size} {status.st_mtime_ns}\n"
