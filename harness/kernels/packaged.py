"""debian:…, the kernels of the Debian archive as they are.

debian:6.12            the newest 6.12 that is a suite's default kernel, bookworm's suites first
debian:6.12.107        that upstream version
debian:6.12.107-1      exactly that package version
debian:trixie          the newest kernel of a release, with its updates
debian:trixie-backports, debian:sid    of that suite
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast

from harness import process, progress
from harness.deadline import Deadline
from harness.debian import RELEASES, STABLE, SUITES, Archive, Candidate, Package, Release
from harness.errors import HostFault, UsageError
from harness.kernels import store
from harness.kernels.source import Recipe, Source
from harness.kernels.store import Parts

# linux-image-6.1.0-56-amd64, linux-image-6.12.95+deb12-amd64, linux-image-7.4-rc3-amd64; not the cloud, rt and
# debug flavours, and not meta packages such as linux-image-6.12-amd64.
_IMAGE = re.compile(r"linux-image-(\d+\.\d+(?:\.\d+|-rc\d+)[^-]*(?:-\d+)?-amd64)")
# The package that depends on a suite's default kernel.
_DEFAULT = "linux-image-amd64"
# Since 7.x, linux-image-* is empty and depends on these three.
_PIECES = ("linux-image-", "linux-binary-", "linux-modules-", "linux-base-")


class DebianSource(Source):
    scheme = "debian"
    example = "debian:6.12, debian:sid, debian:6.12.107-1"

    def check(self, recipe: Recipe) -> None:
        if self.rest not in SUITES and not re.match(r"\d+\.\d+", self.rest):
            raise UsageError(
                f"{self.spec}: {self.rest!r} is neither a version nor a suite of Debian",
                expected=f"a version such as 6.12 or 6.12.107-1, or one of {', '.join(SUITES)}",
            )
        if recipe.fragments:
            raise self.refuse("a Debian package has the configuration that it has", "use tree: or git: with --config")
        if recipe.patches and not recipe.modules_only:
            raise self.refuse(
                "patches to a Debian kernel can only rebuild its KVM modules",
                "add --modules-only kvm (modules_only: kvm), or use tree: or git: for anything else",
            )

    def identity(self, deadline: Deadline, *, update: bool) -> Mapping[str, object]:
        pinned = None if update else store.pin(self.spec)
        if pinned is None:
            pinned = [asdict(package) for package in find_image(self.rest, Archive(), deadline)]
            store.set_pin(self.spec, pinned, deadline)
        return {"packages": pinned}

    def make(self, identity: Mapping[str, object], recipe: Recipe, stage: Path, deadline: Deadline) -> Parts:
        packages = packages_of(identity)
        with progress.task(f"fetch {packages[0]}"):
            tree = stage / "root"
            Archive().unpack(packages, tree, deadline)
            release = packages[0].name.removeprefix("linux-image-")
            modules = _only(tree, f"lib/modules/{release}", f"usr/lib/modules/{release}")
            run_depmod(modules, deadline)
        boot = f"usr/lib/modules/{release}"
        return Parts(
            release=release,
            image=str(_only(tree, f"boot/vmlinuz-{release}", f"{boot}/vmlinuz").relative_to(stage)),
            config=str(_only(tree, f"boot/config-{release}", f"{boot}/config").relative_to(stage)),
            modules=str(modules.relative_to(stage)),
            provenance={"packages": identity["packages"]},
        )


def packages_of(identity: Mapping[str, object]) -> list[Package]:
    """The packages that a Debian kernel's identity names, linux-image-* first."""
    return [Package.from_json(fields) for fields in cast("list[dict[str, object]]", identity["packages"])]


def find_image(wanted: str, archive: Archive, deadline: Deadline) -> list[Package]:
    """The packages of the kernel `wanted` (the part of the spec after the colon), linux-image-* first."""
    seen: list[Candidate] = []
    for release in _releases(wanted):
        images = _images(release, archive, deadline)
        chosen = choose(wanted, images, archive.candidates([_DEFAULT], release, deadline))
        if chosen is not None:
            return _pieces(chosen, archive, deadline)
        seen += images
    by_suite = {one.suite: [other.version for other in seen if other.suite == one.suite] for one in seen}
    raise UsageError(
        f"Debian has no kernel debian:{wanted}",
        expected="one of the versions below, or a suite: " + ", ".join(SUITES),
        evidence="\n".join(f"{suite}: {' '.join(versions)}" for suite, versions in by_suite.items()),
    )


def run_depmod(modules: Path, deadline: Deadline) -> None:
    """Writes modules.dep and its companions into `modules`, a directory …/lib/modules/<release>."""
    process.run(["/sbin/depmod", "-b", modules.parents[2], modules.name], deadline)


def _releases(wanted: str) -> Iterable[Release]:
    return [release for release in RELEASES if wanted in release.suites] or STABLE


def _images(release: Release, archive: Archive, deadline: Deadline) -> list[Candidate]:
    return archive.candidates(archive.names(_IMAGE, release, deadline), release, deadline)


def choose(wanted: str, images: list[Candidate], defaults: list[Candidate]) -> Candidate | None:
    """The newest image that `wanted` means; a suite's default kernel before the others that a suite keeps."""
    is_wanted = _matcher(wanted)
    default_versions = {(one.version, one.suite) for one in defaults}
    matching = [image for image in images if is_wanted(image)]
    preferred = [image for image in matching if (image.version, image.suite) in default_versions]
    return next(iter([*preferred, *matching]), None)


def _matcher(wanted: str) -> Callable[[Candidate], bool]:
    if wanted in SUITES:
        # A release stands for itself with its updates; -backports and the like only for themselves.
        suites = {wanted, f"{wanted}-updates", f"{wanted}-security"}
        return lambda image: image.suite in suites
    series = re.compile(re.escape(wanted) + r"(?![\d])")
    if "-" in wanted:
        return lambda image: image.version == wanted
    return lambda image: series.match(image.version) is not None


def _pieces(image: Candidate, archive: Archive, deadline: Deadline) -> list[Package]:
    first = archive.packages([image], deadline)[0]
    release = first.name.removeprefix("linux-image-")
    names = [piece + release for piece in _PIECES[1:] if piece + release in first.depends]
    return [first, *(archive.find(name, deadline, version=first.version, suite=first.suite) for name in names)]


def _only(tree: Path, *places: str) -> Path:
    """The one of `places` that exists: Debian moved the files when linux-image was split (7.x)."""
    for place in places:
        if (tree / place).exists():
            return tree / place
    raise HostFault(
        "a Debian kernel package is not laid out as expected", expected=" or ".join(places), found=str(tree)
    )
