"""vmx_probe.ko, built against a Debian kernel's headers."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness import paths, process
from harness.cache import locked, staged_dir
from harness.deadline import Deadline
from harness.debian import Archive, Package
from harness.kernels import Kernel
from harness.kernels.kconfig import read_config
from harness.kernels.packaged import packages_of
from harness.kernels.toolchain import toolchain_for

_SOURCE = Path(__file__).parent / "vmx_probe"


def build(kernel: Kernel, folder: Path, deadline: Deadline) -> Path:
    """Compiles the module in the new directory `folder`; returns vmx_probe.ko, stripped."""
    image = packages_of(kernel.provenance)[0]
    root, kbuild = _headers(image, deadline)
    headers = root / "usr/src" / image.name.replace("linux-image-", "linux-headers-")
    [objtool] = [path for path in root.glob("usr/lib/linux-kbuild-*/**/objtool*") if path.suffix == ".real-x86"]
    toolchain = toolchain_for(read_config(headers / ".config"), kbuild, objtool, deadline)
    toolchain.adopt(root.rglob("*.real-*"))
    shutil.copytree(_SOURCE, folder)
    words = ["make", "-C", str(headers), f"M={folder}", *toolchain.make_arguments, "modules"]
    process.run(words, deadline, env=toolchain.environment)
    module = folder / "vmx_probe.ko"
    process.run(["strip", "--strip-debug", module], deadline)
    return module


def _headers(image: Package, deadline: Deadline) -> tuple[Path, Package]:
    """The kernel's headers packages, unpacked into the cache, and the one with kbuild's programs."""
    archive = Archive()

    def same_version(name: str) -> Package:
        return archive.find(name, deadline, version=image.version, suite=image.suite)

    headers = same_version(image.name.replace("linux-image-", "linux-headers-"))
    common = same_version(next(name for name in headers.depends if name.endswith("-common")))
    kbuild = same_version(next(name for name in headers.depends if name.startswith("linux-kbuild-")))
    root = paths.cache_dir() / "bochs" / f"{headers.name}-{headers.version}"
    with locked(root.with_suffix(".lock"), deadline):
        if not root.is_dir():
            with staged_dir(root) as stage:
                archive.unpack([headers, common, kbuild], stage / "root", deadline)
                _settle(stage / "root/usr/src" / headers.name, root / "root")
    return root / "root", kbuild


def _settle(headers: Path, root: Path) -> None:
    """Makes the headers package work below `root` instead of /."""
    makefile = headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{root}/usr/src/"))
    # With it kbuild would make BTF, with the very pahole that made the kernel's.
    (headers / "vmlinux").unlink(missing_ok=True)
