"""debian-source:VERSION[+FRAGMENT…], Debian's source of a kernel built here, small and with options of our choosing.

debian-source:7.3+tdx           7.3 as a TDX host, which Debian's own is not
debian-source:7.3+tdx+lockdep   the same with the kernel's lock checks

The source is the linux-source package of the very version that `debian:VERSION` is.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

from harness import paths, process, progress
from harness.cache import locked, staged_dir
from harness.deadline import Deadline
from harness.debian import Archive, Package
from harness.errors import UsageError
from harness.kernels import store
from harness.kernels.built import BuiltSource
from harness.kernels.kconfig import Fragment, known_fragments, read_fragment
from harness.kernels.model import KernelVersion
from harness.kernels.own_modules import OWN_MODULES, OwnModule
from harness.kernels.packaged import DebianSource, packages_of
from harness.kernels.source import Recipe

# Over tinyconfig: what it takes to run under the harness, and what all of it is about.
_ALWAYS = ("small", "harness", "kvm")


class DebianTreeSource(BuiltSource):
    scheme = "debian-source"
    example = "debian-source:7.3+tdx"
    defconfig = "tinyconfig"

    def __init__(self, spec: str) -> None:
        super().__init__(spec)
        self.rest, *self._names = self.rest.split("+")
        # A build directory per configuration: with one for all, every change of it would compile everything again.
        self.objects = "+".join(["objects", *self._names])

    @property
    def path(self) -> Path:
        return paths.cache_dir() / "sources" / f"linux-source-{self.rest}"

    def check(self, recipe: Recipe) -> None:
        if not re.fullmatch(r"\d+\.\d+", self.rest):
            raise UsageError(
                f"{self.spec}: {self.rest!r} is not a version of linux-source",
                expected="a version such as 7.3, with +FRAGMENT for each of kconfigs/ that is to be merged",
            )
        self._fragments()
        if recipe.modules_only:
            raise self.refuse("modules_only is for debian: kernels", "leave it out: builds are incremental")

    def identity(self, deadline: Deadline, *, update: bool) -> Mapping[str, object]:
        return {
            "packages": [asdict(self._package(deadline, update=update))],
            "config": [self.defconfig, *(fragment.sha256 for fragment in self._fragments())],
            "own_modules": [module.sha256 for module in self.own_modules()],
        }

    def make(self, identity: Mapping[str, object], recipe: Recipe, stage: Path, deadline: Deadline) -> store.Parts:
        self._unpack(packages_of(identity)[0], deadline)
        identity = {**identity, "tree": self.snapshot(deadline)}
        recipe = replace(recipe, fragments=(*self._fragments(), *recipe.fragments))
        return super().make(identity, recipe, stage, deadline)

    def own_modules(self) -> list[OwnModule]:
        options = {name: value for fragment in self._fragments() for name, value in fragment.options.items()}
        version = KernelVersion.parse(self.rest)
        return [module for module in OWN_MODULES if module.needs and module.suits(version, options)]

    def _fragments(self) -> list[Fragment]:
        """Each followed by its variant for this version where there is one, such as tdx-6.12."""
        known = known_fragments()
        names = [[base, *{f"{base}-{self.rest}"}.intersection(known)] for base in (*_ALWAYS, *self._names)]
        return [read_fragment(name) for pair in names for name in pair]

    def _package(self, deadline: Deadline, *, update: bool) -> Package:
        """The linux-source package that goes with the image that `debian:VERSION` stands for."""
        name = f"debian-source:{self.rest}"  # one for all configurations
        pinned = None if update else store.pin(name)
        if pinned is not None:
            return Package.from_json(cast("dict[str, object]", pinned))
        image = packages_of(DebianSource(f"debian:{self.rest}").identity(deadline, update=update))[0]
        source = Archive().find(f"linux-source-{self.rest}", deadline, version=image.version, suite=image.suite)
        store.set_pin(name, asdict(source), deadline)
        return source

    def _unpack(self, package: Package, deadline: Deadline) -> None:
        unpacked = self.path.with_suffix(f"{self.path.suffix}.package")  # says which version lies there
        with locked(self.path.with_suffix(f"{self.path.suffix}.lock"), deadline):
            if self.path.is_dir() and unpacked.is_file() and unpacked.read_text() == str(package):
                return
            with (
                progress.task(f"unpack {package}"),
                staged_dir(self.path) as stage,
                tempfile.TemporaryDirectory(dir=stage.parent) as scratch,
            ):
                Archive().unpack([package], Path(scratch, "root"), deadline)
                tarball = Path(scratch, f"root/usr/src/linux-source-{self.rest}.tar.xz")
                process.run(["tar", "-I", "xz -dT0", "-xf", tarball, "--strip-components=1", "-C", stage], deadline)
            unpacked.write_text(str(package))
