"""tree:PATH and git:PATH@REV, kernels compiled here from source.

The user's tree is only read. A snapshot of it becomes a git tree object in a repository of the cache (which is the
content address), is checked out into a directory of the cache, patched there, and compiled into an object directory
beside it. Git writes only the files that differ, so both stay incremental from one snapshot to the next.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from harness import paths, process, progress
from harness.cache import disk_full_is_a_host_fault, locked
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernels import kconfig, patches
from harness.kernels.kconfig import Fragment
from harness.kernels.modules import make_failed
from harness.kernels.own_modules import OwnModule
from harness.kernels.source import Recipe, Source
from harness.kernels.store import Parts

# Without these the version string, and so the bytes, would name the user, the host and the time of the build.
_REPRODUCIBLE = (
    "KBUILD_BUILD_USER=harness",
    "KBUILD_BUILD_HOST=harness",
    "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
)

_PARALLEL = (f"-j{os.cpu_count()}",)


# Debian's linux-source has a .gitignore that ignores everything at the top level.
_NOT_IGNORED = [f"--exclude=!/{name}" for name in ("*/", "Makefile", "Kbuild", "Kconfig")]


class BuiltSource(Source):
    """A source tree that becomes a kernel by make."""

    defconfig: ClassVar[str] = "x86_64_defconfig"  # the make target to start from where there is no own .config
    objects: str = "objects"  # of the directory that make compiles into

    def check(self, recipe: Recipe) -> None:
        if recipe.modules_only:
            raise self.refuse("modules_only is for debian: kernels", "leave it out: builds of a tree are incremental")
        if not self.path.is_dir():
            raise UsageError(f"{self.spec}: {self.path} is not a directory", expected="a kernel source tree")

    @property
    def path(self) -> Path:
        return Path(self.rest).expanduser().resolve()

    def make(self, identity: Mapping[str, object], recipe: Recipe, stage: Path, deadline: Deadline) -> Parts:
        checkout = _Checkout(self.path)
        with locked(checkout.lock, deadline), disk_full_is_a_host_fault(paths.cache_dir()):
            checkout.switch(str(identity["tree"]), deadline)
            for patch in recipe.patches:
                patches.apply(patch, checkout.source, deadline)
            build = _Build(self.spec, checkout, self.objects)
            config = build.configure(self.base_config() or self.defconfig, recipe.fragments, deadline)
            build.compile(config, deadline)
            own = self.own_modules()
            for module in own:
                build.compile_own(module, deadline)
            return build.install(stage, config, own, {**identity, **recipe.provenance}, deadline)

    def snapshot(self, deadline: Deadline) -> str:
        """The git tree object of the source as it is now."""
        checkout = _Checkout(self.path)
        with locked(checkout.lock, deadline), disk_full_is_a_host_fault(paths.cache_dir()):
            return checkout.snapshot(deadline)

    def base_config(self) -> bytes | None:
        """The .config to start from; None for `defconfig`."""
        return None

    def own_modules(self) -> Sequence[OwnModule]:
        """The harness's modules that are built along with the kernel."""
        return ()


class TreeSource(BuiltSource):
    scheme = "tree"
    example = "tree:/home/me/linux"

    def identity(self, deadline: Deadline, *, update: bool) -> Mapping[str, object]:
        if not (self.path / "Kconfig").is_file():
            raise UsageError(f"{self.spec}: {self.path} is not a kernel source tree", expected="a Kconfig file in it")
        config = self.base_config()
        tree = self.snapshot(deadline)
        return {"tree": tree, "config": hashlib.sha256(config).hexdigest() if config else self.defconfig}

    def base_config(self) -> bytes | None:
        try:
            return (self.path / ".config").read_bytes()
        except FileNotFoundError:
            return None


class GitSource(BuiltSource):
    scheme = "git"
    example = "git:/home/me/linux@v6.18"

    def __init__(self, spec: str) -> None:
        super().__init__(spec)
        self.rest, _, self.revision = self.rest.rpartition("@")

    def identity(self, deadline: Deadline, *, update: bool) -> Mapping[str, object]:
        commit = self._rev_parse("commit", deadline)
        return {"commit": commit, "tree": self._rev_parse("tree", deadline), "config": self.defconfig}

    def _rev_parse(self, kind: str, deadline: Deadline) -> str:
        if not self.rest or not self.revision:
            raise UsageError(f"{self.spec}: no revision", expected="git:PATH@REVISION, such as " + self.example)
        revision = f"{self.revision}^{{{kind}}}"
        try:
            return process.run(
                ["git", "-C", self.path, "rev-parse", "--verify", "--quiet", revision], deadline
            ).strip()
        except process.ProcessFailed as error:
            raise UsageError(
                f"{self.spec}: {self.path} has no revision {self.revision}",
                expected="a commit, tag or branch of a git repository",
                evidence=error.output,
            ) from error


class _Checkout:
    """The copy of one source tree in the cache. Used under its lock."""

    def __init__(self, origin: Path) -> None:
        self._origin = origin
        self.root = (
            paths.cache_dir() / "trees" / f"{origin.name}-{hashlib.sha256(str(origin).encode()).hexdigest()[:8]}"
        )
        self._git_dir = self.root / "git"
        self.source = self.root / "source"
        self.lock = self.root.with_name(self.root.name + ".lock")

    def snapshot(self, deadline: Deadline) -> str:
        """The git tree of the origin as it is now, untracked files included, ignored ones not."""
        with progress.task(f"take a snapshot of {self._origin}"):
            listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", *_NOT_IGNORED]
            files = self._git(listing, self._origin, "origin", deadline).split("\0")
            names = "\0".join(name for name in files if not name.endswith("/"))  # no repositories inside
            update = ["update-index", "-z", "--add", "--remove", "--stdin"]
            self._git(update, self._origin, "origin", deadline, stdin=names)
            return self._git(["write-tree"], self._origin, "origin", deadline).strip()

    def switch(self, tree: str, deadline: Deadline) -> None:
        """Makes `source` the tree `tree`, undoing patches, and touching only the files that differ."""
        self.source.mkdir(parents=True, exist_ok=True)
        with progress.task(f"check out {tree[:12]}"):
            self._git(["read-tree", "--reset", "-u", tree], self.source, "source", deadline)
            self._git(["clean", "-dffxq"], self.source, "source", deadline)

    def _git(
        self, arguments: list[str], work_tree: Path, index: str, deadline: Deadline, stdin: str | None = None
    ) -> str:
        """Runs git on the cache's own repository, with the objects of the origin's, if it is one, at hand."""
        if not self._git_dir.is_dir():
            process.run(["git", "init", "--quiet", "--bare", self._git_dir], deadline)
        environment = {
            "GIT_DIR": str(self._git_dir),
            "GIT_WORK_TREE": str(work_tree),
            "GIT_INDEX_FILE": str(self.root / f"{index}.index"),
            "GIT_CONFIG_GLOBAL": "/dev/null",  # an excludes file of the user must not decide what is compiled
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": self._origin_objects(deadline),
        }
        argv = ["git", "-c", "core.looseCompression=1", *arguments]
        return process.run(argv, deadline, cwd=work_tree, env=environment, stdin=stdin)

    def _origin_objects(self, deadline: Deadline) -> str:
        try:
            common = process.run(["git", "-C", self._origin, "rev-parse", "--git-common-dir"], deadline).strip()
        except process.ProcessFailed:  # an unpacked tarball
            return ""
        return str((self._origin / common / "objects").resolve())


class _Build:
    """make in a checkout."""

    def __init__(self, spec: str, checkout: _Checkout, objects: str) -> None:
        self._spec = spec
        self._source = checkout.source
        self._objects = checkout.root / objects
        self._own_modules = checkout.root / f"{objects}-own"

    def configure(self, base: bytes | str, fragments: Sequence[Fragment], deadline: Deadline) -> Mapping[str, str]:
        """Writes the .config: `base` (bytes, or a make target), the fragments over it, the rest by olddefconfig."""
        dotconfig = self._objects / ".config"
        dotconfig.parent.mkdir(exist_ok=True)
        if isinstance(base, str):
            self._make_config(base, deadline)
        else:
            dotconfig.write_bytes(base)
        with dotconfig.open("a") as file:
            file.writelines(fragment.text for fragment in fragments)
        self._make_config("olddefconfig", deadline)
        config = kconfig.read_config(dotconfig)
        kconfig.check(fragments, config, self._source)
        return config

    def _make_config(self, target: str, deadline: Deadline) -> None:
        try:
            self._make([target], deadline)
        except process.ProcessFailed as error:
            raise make_failed(f"{self._spec} cannot be configured", error) from error

    def compile(self, config: Mapping[str, str], deadline: Deadline) -> None:
        targets = ["bzImage", "modules"] if _has_modules(config) else ["bzImage"]
        try:
            with progress.task(f"compile {self._spec}"):
                self._make([*_PARALLEL, *targets], deadline)
        except process.ProcessFailed as error:
            raise make_failed(f"{self._spec} does not compile", error) from error

    def compile_own(self, module: OwnModule, deadline: Deadline) -> None:
        """Compiles `module` in a copy, since kbuild writes beside the sources and those are the project's."""
        copy = self._own_modules / module.name
        shutil.copytree(module.folder, copy, dirs_exist_ok=True)
        with progress.task(f"compile {module.name}"):
            self._make([*_PARALLEL, f"M={copy}", "modules"], deadline)

    def install(
        self,
        stage: Path,
        config: Mapping[str, str],
        own: Sequence[OwnModule],
        provenance: Mapping[str, object],
        deadline: Deadline,
    ) -> Parts:
        release = (self._objects / "include/config/kernel.release").read_text().strip()
        shutil.copyfile(self._objects / "arch/x86/boot/bzImage", stage / "bzImage")
        shutil.copyfile(self._objects / ".config", stage / "config")
        shutil.copyfile(self._objects / "System.map", stage / "System.map")
        if _has_modules(config):
            # modules_install leaves links to the source and object directories, which move on to the next snapshot
            where = [f"INSTALL_MOD_PATH={stage}", "INSTALL_MOD_STRIP=1", "DEPMOD=/sbin/depmod"]
            self._make(["modules_install", *where], deadline)
            for module in own:
                self._make([f"M={self._own_modules / module.name}", "modules_install", *where], deadline)
            for link in ("build", "source"):
                (stage / "lib/modules" / release / link).unlink(missing_ok=True)
        return Parts(
            release=release,
            image="bzImage",
            config="config",
            modules=f"lib/modules/{release}" if _has_modules(config) else None,
            symbols="System.map",
            provenance={**provenance, "compiler": config.get("CONFIG_CC_VERSION_TEXT", "").strip('"')},
        )

    def _make(self, arguments: list[str], deadline: Deadline) -> None:
        # The user's choice of compiler (CC=clang, LLVM=1) comes with the environment.
        own_compiler = shutil.which("ccache") and not {"CC", "LLVM"} & os.environ.keys()
        compiler = ["CC=ccache gcc"] if own_compiler else []
        argv = ["make", "-C", str(self._source), f"O={self._objects}", *_REPRODUCIBLE, *compiler]
        process.run([*argv, *arguments], deadline)


def _has_modules(config: Mapping[str, str]) -> bool:
    return config.get("CONFIG_MODULES") == "y"
