"""Guest images: an initramfs from a recipe and a kernel's modules, built without root and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import progress
from harness.cache import disk_full_is_a_host_fault, locked, staged_dir
from harness.deadline import Deadline
from harness.debian import Archive
from harness.errors import HostFault
from harness.images import cpio
from harness.images.libraries import shared_libraries
from harness.images.modules import Module, module_tree
from harness.images.recipe import PackageSet, Recipe, load_recipe
from harness.kernels.model import Kernel
from harness.paths import cache_dir
from harness.process import run

_FORMAT = 1  # of the cache entries; counts up when this module puts other things into an image
_IMAGE = "initramfs.cpio"
_CFLAGS = ("-Wall", "-Wextra", "-Werror", "-O2", "-static", "-s")
_LOADER = "ld-linux-x86-64.so.2"
_LIBRARIES = "lib/x86_64-linux-gnu"
_PACKAGES = "packages.json"

# Static nodes: the kernel opens /dev/console for /init before anything has mounted devtmpfs.
_DEVICES = (cpio.character_device("dev/console", 5, 1), cpio.character_device("dev/null", 1, 3, 0o666))


@dataclass(frozen=True)
class GuestImage:
    """An initramfs in the cache. It has no SSH keys: `write` adds those of a run."""

    base: Path  # uncompressed cpio
    key: str  # content address

    def write(self, path: Path, *overlays: bytes) -> Path:
        """Writes the image for one run: the base with `overlays` (cpio archives) appended. Returns `path`."""
        with disk_full_is_a_host_fault(path.parent):
            shutil.copyfile(self.base, path)
            with path.open("ab") as file:
                file.writelines(overlays)
        return path


def boot_modules(kernel: Kernel) -> frozenset[str]:
    """The modules of `kernel` that the image's init loads, those that they need among them."""
    tree = module_tree(kernel)
    return frozenset(module.name for module in tree.resolve(load_recipe().modules.boot))


@dataclass(frozen=True)
class _Selection:
    """The modules of an image."""

    modules: list[Module]  # each after its dependencies
    boot: list[str]  # names that /init loads; built-in ones left out


def build_image(kernel: Kernel, recipe: Recipe, extra_modules: Sequence[str], deadline: Deadline) -> GuestImage:
    """The guest image of `recipe` for `kernel`, from the cache when it is there.

    `extra_modules` are carried beside the recipe's. Raises UsageError for a module that the kernel does not
    have, HostFault when a package cannot be fetched or a helper does not compile.
    """
    selection = _select(kernel, recipe, extra_modules)
    packages = _packages(recipe.packages, deadline)
    key = _key(kernel, recipe, selection, packages)
    folder = cache_dir() / "images" / key
    if not folder.exists():
        with locked(folder.with_suffix(".lock"), deadline):
            if not folder.exists():
                with progress.task(f"build the guest image for {kernel.release}"), staged_dir(folder) as stage:
                    entries = _entries(kernel, recipe, selection, packages, deadline)
                    (stage / _IMAGE).write_bytes(cpio.pack(entries))
    return GuestImage(folder / _IMAGE, key)


def _select(kernel: Kernel, recipe: Recipe, extra_modules: Sequence[str]) -> _Selection:
    tree = module_tree(kernel)
    required = [*recipe.modules.boot, *extra_modules]
    carried = [name for name in recipe.modules.carried if tree.has(name)]
    return _Selection(
        modules=tree.resolve([*required, *carried]),
        boot=[name for name in recipe.modules.boot if not tree.is_builtin(name)],
    )


def _packages(packages: PackageSet, deadline: Deadline) -> Path:
    """The recipe's packages, unpacked over each other. What is in the cache stays as it is: versions do not drift."""
    name = hashlib.sha256(json.dumps([packages.suite, packages.names]).encode()).hexdigest()[:16]
    tree = cache_dir() / "images" / f"packages-{name}"
    if not tree.exists():
        with locked(tree.with_suffix(".lock"), deadline):
            if not tree.exists():
                with progress.task("fetch the guest's programs"), staged_dir(tree) as stage:
                    unpacked = Archive().unpack_with_dependencies(
                        packages.names, packages.suite, stage / "root", deadline
                    )
                    (stage / _PACKAGES).write_text(json.dumps([str(package) for package in unpacked], indent=1))
    return tree


def _key(kernel: Kernel, recipe: Recipe, selection: _Selection, packages: Path) -> str:
    digest = hashlib.sha256()

    def add(name: str, data: bytes) -> None:
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)

    add("format", str(_FORMAT).encode())
    add("recipe", recipe.model_dump_json(exclude={"path"}).encode())
    add("kernel", f"{kernel.key} {kernel.release}".encode())
    add("packages", (packages / _PACKAGES).read_bytes())
    for source in _sources(recipe):
        add(source.name, source.read_bytes())
    for module in selection.modules:
        add(module.path, module.source.read_bytes())
    return digest.hexdigest()[:32]


def _sources(recipe: Recipe) -> Iterator[Path]:
    for helper in recipe.helpers.values():
        yield recipe.source(helper)
    for file in recipe.files.values():
        yield recipe.source(file.source)


def _entries(
    kernel: Kernel, recipe: Recipe, selection: _Selection, packages: Path, deadline: Deadline
) -> Iterator[cpio.Entry]:
    root = packages / "root"
    yield from _DEVICES
    yield from (cpio.directory(_relative(folder)) for folder in recipe.folders)
    yield from (cpio.symlink(_relative(link), target) for link, target in recipe.links.items())
    for path, file in recipe.files.items():
        yield cpio.file(_relative(path), recipe.source(file.source).read_bytes(), file.mode)
    yield from _programs(recipe, root)
    with tempfile.TemporaryDirectory(prefix="harness-image.") as scratch:
        for path, helper in recipe.helpers.items():
            yield cpio.file(_relative(path), _compile(recipe.source(helper), Path(scratch), deadline), 0o755)
        yield from _module_entries(kernel, selection, root, Path(scratch), deadline)
    yield cpio.file("etc/boot-modules", "".join(f"{name}\n" for name in selection.boot).encode())


def _relative(path: str) -> str:
    return path.lstrip("/")


def _programs(recipe: Recipe, root: Path) -> Iterator[cpio.Entry]:
    programs = [root / _relative(path) for path in recipe.programs]
    for program in programs:
        if not program.is_file():
            raise HostFault(
                f"no package of the guest image has /{program.relative_to(root)}",
                expected=f"in one of: {', '.join(recipe.packages.names)} ({recipe.packages.suite})",
                hint=f"correct `programs` in {recipe.path}",
            )
        yield cpio.file(str(program.relative_to(root)), program.read_bytes(), 0o755)
    for library in shared_libraries(programs, root):
        yield cpio.file(f"{_LIBRARIES}/{library.name}", library.read_bytes(), 0o755)
    yield cpio.symlink(f"lib64/{_LOADER}", f"/{_LIBRARIES}/{_LOADER}")


def _compile(source: Path, scratch: Path, deadline: Deadline) -> bytes:
    program = scratch / source.stem
    run(["gcc", *_CFLAGS, "-o", program, source], deadline)
    return program.read_bytes()


def _module_entries(
    kernel: Kernel, selection: _Selection, root: Path, scratch: Path, deadline: Deadline
) -> Iterator[cpio.Entry]:
    """lib/modules/<release> with the selected modules and lists of exactly these, for kmod and guestctl."""
    folder = scratch / "lib" / "modules" / kernel.release
    folder.mkdir(parents=True)
    for module in selection.modules:
        file = folder / module.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(module.read())
    builtin = kernel.modules / "modules.builtin" if kernel.modules else None
    if builtin is not None and builtin.is_file():
        shutil.copyfile(builtin, folder / builtin.name)
    # depmod numbers the modules in this order; without it, in that of readdir(3).
    (folder / "modules.order").write_text("".join(f"{module.path}\n" for module in selection.modules))
    _depmod(kernel.release, scratch, root, deadline)
    for file in _files(folder):
        yield cpio.file(str(file.relative_to(scratch)), file.read_bytes())


def _depmod(release: str, scratch: Path, root: Path, deadline: Deadline) -> None:
    """The packages' own depmod, through their own loader: the host needs none, and all hosts get the same bytes."""
    libraries = root / _LIBRARIES
    search = f"{libraries}:{root / 'usr' / _LIBRARIES}"
    loader = [str(libraries / _LOADER), "--library-path", search, "--argv0", "depmod"]
    run([*loader, root / "bin/kmod", "-b", scratch, release], deadline)


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
