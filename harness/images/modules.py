"""Which module files a guest needs for the modules it names, and in which order they load.

Read from what depmod(8) wrote into lib/modules/<release>: modules.dep, modules.builtin, modules.alias and
modules.softdep (see modules.dep(5) and modprobe.d(5)).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path, PurePosixPath

from elftools.elf.elffile import ELFFile

from harness.compression import decompress
from harness.errors import UsageError
from harness.kernels.model import Kernel

_WILDCARD = re.compile(r"[*?[]")


def module_name(path: str) -> str:
    """The kernel's name of the module in a file: kernel/arch/x86/kvm/kvm-amd.ko.xz is kvm_amd."""
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


@dataclass(frozen=True)
class Module:
    """A module's file, on the host and in the guest."""

    name: str
    source: Path  # possibly compressed
    path: str  # in the guest, below lib/modules/<release>: kernel/arch/x86/kvm/kvm-amd.ko

    def read(self) -> bytes:
        """The uncompressed file."""
        return decompress(self.source.read_bytes())


@dataclass(frozen=True)
class _Alias:
    """A line of modules.alias, with underscores: "alias crypto-aes aesni_intel"."""

    literal: str  # what the pattern begins with, up to its first wildcard
    pattern: str
    module: str

    @classmethod
    def of(cls, pattern: str, module: str) -> _Alias:
        pattern = pattern.replace("-", "_")
        return cls(_WILDCARD.split(pattern, maxsplit=1)[0], pattern, module)

    def matches(self, name: str) -> bool:
        # fnmatch compiles each pattern before it tries it, which took 2.2 s for the 27000 of a Debian kernel.
        return name.startswith(self.literal) and fnmatchcase(name, self.pattern)


@dataclass(frozen=True)
class _Content:
    """What two kernels with the same modules have in common: the same content at the same place."""

    key: str
    root: Path | None
    overlay: frozenset[tuple[str, Path]]
    kernel: Kernel = field(compare=False)


def module_tree(kernel: Kernel) -> ModuleTree:
    """The modules of a kernel. Reading depmod's lists takes 0.3 s, so they are kept for the next run."""
    return _tree(_Content(kernel.key, kernel.modules, frozenset(kernel.overlay.items()), kernel))


@functools.lru_cache(maxsize=8)
def _tree(content: _Content) -> ModuleTree:
    return ModuleTree(content.kernel)


class ModuleTree:
    """The modules of a kernel, with its overlay in place of those that it replaces."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._root = kernel.modules
        self._behind: dict[str, tuple[str, ...]] = {}  # names that were asked for -> modules

    def is_builtin(self, name: str) -> bool:
        return name in self._builtin and name not in self._kernel.overlay

    def has(self, name: str) -> bool:
        """Whether the kernel has `name`, as a module or built in, under this name or as an alias."""
        return bool(self._real_names(name)) or self.is_builtin(name)

    def resolve(self, names: Iterable[str]) -> list[Module]:
        """The modules `names` and all that they depend on, each after its dependencies. Built-in ones are left out.

        Raises UsageError for a name that the kernel does not have.
        """
        order: dict[str, Module] = {}
        for name in names:
            normal = name.replace("-", "_")
            if not self.has(normal):
                raise self._missing(name)
            for real in self._real_names(normal):
                self._visit(real, order, ())
        return list(order.values())

    def _visit(self, name: str, order: dict[str, Module], above: tuple[str, ...]) -> None:
        # depmod drops dependency cycles; soft dependencies may have one, and modprobe ignores it too.
        if name in order or name in above or self.is_builtin(name):
            return
        for dependency in self._dependencies(name):
            self._visit(dependency, order, (*above, name))
        order[name] = self._module(name)

    def _module(self, name: str) -> Module:
        replaced = self._dep.get(name)
        path = replaced[0] if replaced else f"updates/{name}.ko"
        guest_path = path.partition(".ko")[0] + ".ko"
        if name in self._kernel.overlay:
            return Module(name, self._kernel.overlay[name], guest_path)
        assert self._root is not None  # modules.dep came from there
        return Module(name, self._root / path, guest_path)

    def _dependencies(self, name: str) -> Iterator[str]:
        """In the order of modules.dep, from the last to the first; soft ones where the kernel has them."""
        for soft in self._softdep.get(name, ()):
            yield from self._real_names(soft)
        if name in self._kernel.overlay:
            # A patch may have given the module other dependencies than modules.dep knows.
            yield from _needed(self._kernel.overlay[name])
        else:
            yield from (module_name(path) for path in reversed(self._dep[name][1]))

    def _real_names(self, name: str) -> Sequence[str]:
        """The modules behind a name or an alias: modprobe loads all that an alias matches."""
        if name in self._dep or name in self._kernel.overlay:
            return (name,)
        if name not in self._behind:
            self._behind[name] = tuple(alias.module for alias in self._alias if alias.matches(name))
        return self._behind[name]

    def _missing(self, name: str) -> UsageError:
        option = next((key for key in self._kernel.config if key.lower() == f"config_{name}".lower()), None)
        return UsageError(
            f"kernel {self._kernel.spec} ({self._kernel.release}) has no module {name!r}",
            expected=f"{name}.ko in {self._root}, or {name} built in",
            found=f"{option}={self._kernel.config[option]}" if option else "",
            hint="name a module that modules.dep lists, or build the kernel with it (see docs/kernels.md)",
        )

    @functools.cached_property
    def _dep(self) -> dict[str, tuple[str, list[str]]]:
        """Name -> (path, paths of the dependencies)."""
        rows = (line.partition(":") for line in self._lines("modules.dep"))
        return {module_name(path): (path, dependencies.split()) for path, _, dependencies in rows}

    @functools.cached_property
    def _builtin(self) -> frozenset[str]:
        return frozenset(map(module_name, self._lines("modules.builtin")))

    @functools.cached_property
    def _alias(self) -> list[_Alias]:
        rows = (line.split() for line in self._lines("modules.alias"))
        return [_Alias.of(row[1], row[2]) for row in rows if len(row) == 3]

    @functools.cached_property
    def _softdep(self) -> dict[str, list[str]]:
        """Name -> what loads before it: "softdep libcrc32c pre: crc32c"."""
        found: dict[str, list[str]] = {}
        for line in self._lines("modules.softdep"):
            _, module, *words = line.split()
            before = " ".join(words).partition("post:")[0].replace("pre:", " ")
            found.setdefault(module.replace("-", "_"), []).extend(before.replace("-", "_").split())
        return found

    def _lines(self, name: str) -> list[str]:
        """The lines of one of depmod's lists, without comments; none when the kernel has no such list."""
        file = self._root / name if self._root else None
        if file is None or not file.is_file():
            return []
        return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def _needed(module: Path) -> list[str]:
    """The `depends=` field of a module's .modinfo section."""
    section = ELFFile(BytesIO(decompress(module.read_bytes()))).get_section_by_name(".modinfo")
    fields = section.data().split(b"\0") if section else []
    for line in fields:
        key, _, value = line.decode(errors="replace").partition("=")
        if key == "depends":
            return [name.replace("-", "_") for name in value.split(",") if name]
    return []
