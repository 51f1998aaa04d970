"""Modules for a Debian kernel as it is: its KVM modules, rebuilt with patches, and the harness's own.

The source is the distribution's linux-source package of exactly the kernel's version, compiled against its headers
package. One workshop per kernel version keeps the objects: a patch compiles what it touches, and is taken out again
afterwards. Measured with Debian 6.12: 80 s of CPU the first time, then 3 to 5 s per patched file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import paths, process, progress
from harness.cache import locked, staged_dir
from harness.deadline import Deadline
from harness.debian import Archive, Package
from harness.errors import DoesNotBuild, HostFault, UsageError
from harness.kernels import patches
from harness.kernels.diff import Patch
from harness.kernels.kconfig import read_config
from harness.kernels.model import Kernel, KernelVersion
from harness.kernels.own_modules import OwnModule
from harness.kernels.source import Recipe
from harness.kernels.store import Entry, Parts
from harness.kernels.toolchain import Toolchain, toolchain_for

_MODULES = "arch/x86/kvm"  # where the Makefile of kvm.ko, kvm-intel.ko and kvm-amd.ko is
_SOURCES = ("virt", _MODULES)  # what the headers packages lack of them
MODULE_SOURCES = (*_SOURCES, "include", "arch/x86/include")  # what a patch can change in the modules
_IRRELEVANT = ("Documentation", "tools", "samples", "MAINTAINERS", "CREDITS", ".mailmap", ".gitignore")


@dataclass(frozen=True)
class _BuildPackages:
    """The packages that a Debian kernel's modules are built from, all of the kernel's version."""

    headers: Package
    common: Package
    kbuild: Package
    source: Package

    @classmethod
    def of(cls, image: Package, deadline: Deadline) -> _BuildPackages:
        """Raises UsageError when the archive no longer has one of them in the kernel's version."""
        archive = Archive()

        def same_version(name: str) -> Package:
            return archive.find(name, deadline, version=image.version, suite=image.suite)

        headers = same_version(image.name.replace("linux-image-", "linux-headers-"))
        version = KernelVersion.parse(image.version)
        return cls(
            headers=headers,
            common=same_version(next(name for name in headers.depends if name.endswith("-common"))),
            kbuild=same_version(next(name for name in headers.depends if name.startswith("linux-kbuild-"))),
            source=same_version(f"linux-source-{version.major}.{version.minor}"),
        )

    @property
    def all(self) -> tuple[Package, ...]:
        return (self.headers, self.common, self.kbuild, self.source)


def make_overlay(image: Package, base: Entry, recipe: Recipe, stage: Path, deadline: Deadline) -> Parts:
    """Builds the modules of `recipe` for the kernel of package `image`, whose entry is `base`, into `stage`.

    Raises UsageError for a patch that touches what is not in the modules, DoesNotBuild for one that does not apply
    or compile.
    """
    relevant = tuple(_relevant(patch) for patch in recipe.patches)
    workshop = _Workshop(image, base.spec, base.parts.release)
    with locked(workshop.lock, deadline):
        toolchain = workshop.prepare(deadline)
        built = workshop.build(relevant, toolchain, deadline)
        overlay = {path.stem.replace("-", "_"): path.name for path in built}
        for path in built:
            _strip(path, stage / path.name, deadline)
        provenance = workshop.provenance(toolchain, deadline)
    return Parts(
        release=base.parts.release,
        image="",
        config="",
        modules=None,
        overlay=overlay,
        base=base.key,
        provenance={**base.parts.provenance, **recipe.provenance, **provenance},
    )


def make_own_module(image: Package, kernel: Kernel, module: OwnModule, stage: Path, deadline: Deadline) -> Parts:
    """Builds `module` for `kernel`, which is that of package `image`, into `stage`."""
    workshop = _Workshop(image, kernel.spec, kernel.release)
    with locked(workshop.lock, deadline):
        toolchain = workshop.prepare(deadline)
        built = workshop.build_own(module, toolchain, deadline)
        _strip(built, stage / built.name, deadline)
        provenance = workshop.provenance(toolchain, deadline)
    return Parts(
        release=kernel.release,
        image="",
        config="",
        modules=None,
        overlay={module.name: built.name},
        base=kernel.key,
        provenance={"own_module": module.name, **provenance},
    )


def remove_workshop(release: str) -> None:
    """Removes the objects kept for the kernel `release`, if there are any."""
    shutil.rmtree(_workshops() / release, ignore_errors=True)


def _workshops() -> Path:
    return paths.cache_dir() / "workshops"


class _Workshop:
    """Headers, sources and objects of one kernel version. Used under its lock."""

    def __init__(self, image: Package, spec: str, release: str) -> None:
        self._image = image
        self._spec = spec  # for messages
        self._release = release
        self._root = _workshops() / self._release
        self.lock = self._root.with_name(f"{self._release}.lock")

    def prepare(self, deadline: Deadline) -> Toolchain:
        """Unpacks what is missing, takes out what an interrupted run left patched, and finds the compiler."""
        if not self._is_for(self._image.version):
            self._unpack(_BuildPackages.of(self._image, deadline), deadline)
        self._restore()
        config = read_config(self._headers / ".config")
        programs = self._root / "root/usr/lib"
        # Since 6.12, objtool and modpost are front ends that start e.g. objtool.real-x86.
        real = [*programs.rglob("*.real-*")]
        [objtool] = [path for path in real if path.name == "objtool.real-x86"] or programs.rglob("objtool/objtool")
        toolchain = toolchain_for(config, self._packages[2], objtool, deadline)
        toolchain.adopt(real)
        return toolchain

    def build(self, changes: Sequence[Patch], toolchain: Toolchain, deadline: Deadline) -> list[Path]:
        """The modules with `changes`, unstripped and only until the lock is released."""
        try:
            for change in changes:
                self._remember(change)
                patches.apply(change, self._tree, deadline)
            what = f" with {', '.join(change.origin.name for change in changes)}" if changes else ""
            with progress.task(f"build the KVM modules of {self._release}{what}"):
                self._make_kvm(changes, toolchain, deadline)
        finally:
            self._restore()
        built = sorted((self._tree / _MODULES).glob("*.ko"))
        for module in built:
            self._check_vermagic(module, deadline)
        return built

    def build_own(self, module: OwnModule, toolchain: Toolchain, deadline: Deadline) -> Path:
        """`module`, unstripped, from a copy, since kbuild writes beside the sources and those are the project's."""
        copy = self._root / "own" / module.name
        shutil.copytree(module.folder, copy, dirs_exist_ok=True)
        with progress.task(f"build {module.name} for {self._release}"):
            self._make(copy, toolchain, deadline)
        built = copy / f"{module.name}.ko"
        self._check_vermagic(built, deadline)
        return built

    def provenance(self, toolchain: Toolchain, deadline: Deadline) -> dict[str, object]:
        return {
            "build_packages": [f"{package.name} {package.version}" for package in self._packages],
            "compiler": toolchain.describe(deadline),
            "kernel_compiler": read_config(self._headers / ".config")["CONFIG_CC_VERSION_TEXT"].strip('"'),
        }

    @property
    def _tree(self) -> Path:
        """The kernel's root as patches see it: the common headers, with the modules' sources put among them."""
        return self._root / "root/usr/src" / self._packages[1].name

    @property
    def _headers(self) -> Path:
        return self._root / "root/usr/src" / self._packages[0].name

    @property
    def _packages(self) -> list[Package]:
        stored = json.loads((self._root / "packages.json").read_text())
        return [Package.from_json(fields) for fields in stored]

    @property
    def _originals(self) -> Path:
        return self._root / "originals"

    def _is_for(self, version: str) -> bool:
        """Debian rebuilds a kernel under the same release name with another version (6.1.0-56 6.1.192-1 and -2)."""
        return (self._root / "packages.json").is_file() and self._packages[0].version == version

    def _unpack(self, packages: _BuildPackages, deadline: Deadline) -> None:
        with staged_dir(self._root) as stage, progress.task(f"unpack headers and KVM sources of {self._release}"):
            Archive().unpack(packages.all, stage / "root", deadline)
            sources = stage / "root/usr/src"
            tarball = sources / f"{packages.source.name}.tar.xz"
            wanted = [f"{packages.source.name}/{folder}" for folder in _SOURCES]
            into = sources / packages.common.name
            # The archive has 62 xz blocks, so -T0 halves the 12 s.
            process.run(
                ["tar", "-I", "xz -dT0", "-xf", tarball, "--strip-components=1", "-C", into, *wanted], deadline
            )
            tarball.unlink()
            headers = sources / packages.headers.name
            makefile = headers / "Makefile"
            makefile.write_text(makefile.read_text().replace("/usr/src/", f"{self._root}/root/usr/src/"))
            # With it kbuild would want the very pahole that made the kernel's BTF. Without, the modules have no BTF,
            # which only BPF programs miss.
            (headers / "vmlinux").unlink(missing_ok=True)
            fields = [asdict(package) for package in packages.all]
            (stage / "packages.json").write_text(json.dumps(fields, indent=1))

    def _make_kvm(self, changes: Sequence[Patch], toolchain: Toolchain, deadline: Deadline) -> None:
        try:
            self._make(self._tree / _MODULES, toolchain, deadline)
        except process.ProcessFailed as error:
            if not changes:
                raise
            what = f"the KVM modules of {self._spec} do not compile with {', '.join(map(str, changes))}"
            raise make_failed(what, error) from error

    def _make(self, folder: Path, toolchain: Toolchain, deadline: Deadline) -> None:
        """Compiles the modules whose Kbuild file is in `folder`."""
        argv = ["make", "-C", str(self._headers), f"M={folder}", f"-j{os.cpu_count()}", "modules"]
        process.run([*argv, *toolchain.make_arguments], deadline, env=toolchain.environment)

    def _remember(self, change: Patch) -> None:
        """Keeps the originals of what `change` touches; a file that it makes is kept as nothing."""
        for name in change.files:
            original, kept = self._tree / name, self._originals / name
            if kept.exists() or (kept.with_name(kept.name + ".absent")).exists():
                continue
            kept.parent.mkdir(parents=True, exist_ok=True)
            if original.exists():
                shutil.copyfile(original, kept)
            else:
                kept.with_name(kept.name + ".absent").touch()

    def _restore(self) -> None:
        """Puts the originals back, with a new time, so that make compiles them again."""
        for kept in [path for path in self._originals.rglob("*") if path.is_file()]:
            original = self._tree / kept.relative_to(self._originals)
            if kept.suffix == ".absent":
                original.with_suffix("").unlink(missing_ok=True)
            else:
                original.unlink(missing_ok=True)
                shutil.copyfile(kept, original)
        shutil.rmtree(self._originals, ignore_errors=True)

    def _check_vermagic(self, module: Path, deadline: Deadline) -> None:
        magic = process.run(["/sbin/modinfo", "-F", "vermagic", module], deadline).split()
        if magic[:1] != [self._release]:
            raise HostFault(
                f"{module.name} was built for another kernel", expected=self._release, found=" ".join(magic)
            )


def _relevant(patch: Patch) -> Patch:
    """`patch` without documentation and user space. Raises UsageError when the rest is not about the modules."""
    change = patch.only(lambda name: not _below(name, _IRRELEVANT))
    outside = outside_of_modules(change.files)
    if outside or not change.diffs:
        raise UsageError(
            f"patch {patch} cannot be tried with modules_only: kvm",
            expected=f"changes in {', '.join(MODULE_SOURCES)}",
            found=", ".join(outside or patch.files),
            hint="build the whole kernel from tree: or git: instead",
        )
    return change


def outside_of_modules(files: Iterable[str]) -> list[str]:
    """Those of `files`, relative to the kernel's root, that are in the kernel image and in no module of KVM."""
    return [name for name in files if not _below(name, (*MODULE_SOURCES, *_IRRELEVANT))]


def _below(name: str, folders: Sequence[str]) -> bool:
    return any(name == folder or name.startswith(f"{folder}/") for folder in folders)


# What gcc, clang, ld and make say when the host kills one of them for want of memory, has no room, or lacks a program
# such as flex (a shell's exit status 127). make itself has one exit status for everything.
_HOST_S = re.compile(
    r"Killed signal terminated program|unable to execute command: Killed|signal 9 \[Killed\]"
    r"|^make.*\*\*\* .* (?:Killed|Error 127)$|No space left on device|Cannot allocate memory",
    re.MULTILINE,
)


def make_failed(what: str, error: process.ProcessFailed) -> DoesNotBuild | HostFault:
    """The exception for a make that failed: the source's fault, unless the host was not up to it."""
    told = _HOST_S.search(error.output)
    if told is None and error.returncode > 0:
        return DoesNotBuild(what, evidence=compiler_errors(error.output))
    found = told[0] if told else f"make: signal {-error.returncode}"
    return HostFault(f"the host failed where {what}", found=found, evidence=error.evidence)


def compiler_errors(output: str) -> str:
    """The compiler's errors with what follows them, out of a parallel make's output; its tail when there are none."""
    lines = output.splitlines()
    picked = {
        at
        for i, line in enumerate(lines)
        if ": error: " in line or ": fatal error: " in line
        for at in (i, i + 1, i + 2)
    }
    return "\n".join(lines[at] for at in sorted(picked) if at < len(lines)) or process.tail(output)


def _strip(module: Path, dest: Path, deadline: Deadline) -> None:
    """As `make modules_install INSTALL_MOD_STRIP=1`: kvm.ko goes from 19 MB to 2 MB."""
    process.run(["strip", "--strip-debug", "-o", dest, module], deadline)
