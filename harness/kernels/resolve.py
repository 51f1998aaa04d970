"""From a spec to a kernel that boots: out of the cache, or fetched or built into it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.deadline import Deadline
from harness.debian import Package
from harness.errors import UsageError
from harness.kernels import store
from harness.kernels.built import GitSource, TreeSource
from harness.kernels.debian_source import DebianTreeSource
from harness.kernels.image import ImageSource
from harness.kernels.model import BuildOptions, Kernel
from harness.kernels.modules import make_overlay, make_own_module, remove_workshop
from harness.kernels.own_modules import OWN_MODULES
from harness.kernels.packaged import DebianSource, packages_of
from harness.kernels.source import Recipe, Source
from harness.kernels.store import CorruptEntry, Entry, Parts

SOURCES: dict[str, type[Source]] = {
    source.scheme: source for source in (DebianSource, DebianTreeSource, TreeSource, GitSource, ImageSource)
}


def parse(spec: str) -> Source:
    """The source that `spec` names. Raises UsageError listing the kinds that there are."""
    source = SOURCES.get(spec.partition(":")[0])
    if source is None or not spec.partition(":")[2]:
        raise UsageError(
            f"unknown kernel source {spec!r}",
            expected="one of " + "; ".join(source.example for source in SOURCES.values()),
        )
    return source(spec)


def resolve(spec: str, options: BuildOptions, deadline: Deadline, *, update: bool = False) -> Kernel:
    """The kernel `spec` with `options` done to it.

    What is in the cache is returned without network; `debian:` specs stand for the same packages until `update`.
    Raises UsageError for a wrong spec, patch, fragment or combination, and for a kernel that does not compile with
    a patch; HostFault for trouble with network, disk or tools.
    """
    recipe = Recipe.read(options)
    source = parse(spec)
    source.check(recipe)
    identity = source.identity(deadline, update=update)
    stock = Recipe() if recipe.modules_only else recipe

    def make(stage: Path) -> Parts:
        return source.make(identity, stock, stage, deadline)

    entry = store.obtain(store.key_of({"source": identity, **stock.identity}), spec, make, deadline)
    if not recipe.modules_only:
        return entry.kernel(spec)
    return _overlay(entry, packages_of(identity)[0], recipe, deadline).kernel(spec, entry)


def _overlay(base: Entry, image: Package, recipe: Recipe, deadline: Deadline) -> Entry:
    """The entry with the rebuilt modules of the packaged kernel `base`."""
    key = store.key_of({"base": base.key, **recipe.identity})
    return store.obtain(key, base.spec, lambda stage: make_overlay(image, base, recipe, stage, deadline), deadline)


def with_own_modules(kernel: Kernel, names: Iterable[str], deadline: Deadline) -> Kernel:
    """`kernel` with those of the harness's own modules among `names` that are built against Debian's headers.

    Other kernels, and other names, are left as they are. Raises HostFault for trouble with network, disk or tools.
    """
    source = parse(kernel.spec)
    built_here = [module for module in OWN_MODULES if not module.needs and module.suits(kernel.version, {})]
    wanted = [module for module in built_here if module.name in names]
    if not wanted or not isinstance(source, DebianSource):
        return kernel
    image = packages_of(source.identity(deadline, update=False))[0]
    stock = resolve(kernel.spec, BuildOptions(), deadline)
    overlay = dict(kernel.overlay)
    for module in wanted:
        make = functools.partial(make_own_module, image, stock, module, deadline=deadline)
        key = store.key_of({"base": stock.key, "own_module": module.sha256})
        overlay |= store.obtain(key, kernel.spec, make, deadline).overlay
    key = store.key_of({"kernel": kernel.key, "own_modules": [module.sha256 for module in wanted]})
    return replace(kernel, overlay=overlay, key=key)


def with_patches(spec: str, patches: tuple[Path, ...]) -> BuildOptions:
    """The quickest way to have `patches` in the kernel `spec`: of a packaged one, only the KVM modules are built."""
    return BuildOptions(patches, modules_only="kvm" if isinstance(parse(spec), DebianSource) else "")


def kernels_in_cache() -> list[Entry | CorruptEntry]:
    """What the cache holds, newest first."""
    return list(store.entries())


def remove(what: str, deadline: Deadline) -> list[str]:
    """Removes the kernels whose spec, release or beginning of key is `what`, with all that was kept to rebuild them.

    Returns the keys. Raises UsageError when nothing matches.
    """
    doomed = [entry for entry in store.entries() if _is_meant(entry, what)]
    if not doomed:
        known = ", ".join(f"{entry.key} ({entry.spec})" for entry in store.entries() if isinstance(entry, Entry))
        raise UsageError(f"no kernel {what!r} in the cache", expected=f"one of {known}" if known else "")
    for entry in doomed:
        store.remove(entry.key, deadline)
        if isinstance(entry, Entry) and not entry.parts.base:
            store.set_pin(entry.spec, None, deadline)
            remove_workshop(entry.parts.release)
    return [entry.key for entry in doomed]


def _is_meant(entry: Entry | CorruptEntry, what: str) -> bool:
    names = (entry.spec, entry.parts.release) if isinstance(entry, Entry) else ()
    return what in names or (len(what) >= 4 and entry.key.startswith(what))
