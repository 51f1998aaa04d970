"""Kernels for the length of a night: a branch or a suite is looked at once, when the night begins."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.deadline import Deadline
from harness.debian import SUITES
from harness.errors import HostFault, UsageError
from harness.kernels import store
from harness.kernels.built import GitSource
from harness.kernels.model import BuildOptions, Kernel
from harness.kernels.packaged import DebianSource
from harness.kernels.resolve import parse, resolve

_LOOK_S = 600.0  # package lists over a slow line


@dataclass(frozen=True)
class FrozenKernel:
    """A kernel as it was when the night began.

    `spec` is what is built: of a branch, its commit. `revision` is that commit, or the version of the package, or ""
    for what has none; `identity` what decides the source's bytes; `key` equals that of the kernel, once it is built.
    """

    name: str
    spec: str
    options: BuildOptions = field(default_factory=BuildOptions)
    revision: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    release: str = ""

    @property
    def repository(self) -> str:
        """Where the commits of a kernel from git are; "" for one that is not."""
        scheme, _, rest = self.spec.partition(":")
        return rest.rpartition("@")[0] if scheme == GitSource.scheme else ""

    def resolve(self, deadline: Deadline) -> Kernel:
        """The kernel, made when the cache has none.

        Raises what `kernels.resolve` raises, until it has been made once; from then on HostFault, when it cannot be
        made (on a worker without the repository, say) or is another than in the beginning of the night.
        """
        try:
            kernel = resolve(self.spec, self.options, deadline)
        except UsageError as error:
            if not self.key:
                raise
            hint = "a worker needs repositories and trees at the same paths as the host of the night"
            raise HostFault(
                f"{self.name} cannot be made on {socket.gethostname()}", found=error.what, hint=hint
            ) from error
        if self.key and kernel.key != self.key:
            raise HostFault(
                f"{self.name} is no longer what it was when the night began",
                expected=f"key {self.key} ({self.release} {self.revision})",
                found=f"key {kernel.key} ({kernel.release})",
                hint="`harness matrix --new` begins a night with what it is now",
            )
        return kernel

    def pin(self, deadline: Deadline) -> None:
        """Lets the spec of packages stand for the same packages on this host."""
        packages = self.identity.get("packages")
        if self.spec.startswith(f"{DebianSource.scheme}:") and store.pin(self.spec) != packages:
            store.set_pin(self.spec, packages, deadline)


def freeze(name: str, spec: str, options: BuildOptions) -> FrozenKernel:
    """Looks at what `spec` stands for now.

    A suite (`debian:sid`) is asked for its newest kernel; a version (`debian:6.12`) goes on meaning the same package.
    Raises UsageError for a revision or version that there is not, HostFault for trouble with the network.
    """
    deadline = Deadline.after(_LOOK_S, f"what {spec} stands for")
    source = parse(spec)
    suite = isinstance(source, DebianSource) and source.rest in SUITES
    identity = source.identity(deadline, update=suite)
    if isinstance(source, GitSource):
        commit = str(identity["commit"])
        return FrozenKernel(name, f"{source.scheme}:{source.path}@{commit}", options, commit, identity)
    packages = identity.get("packages")
    version = str(packages[0]["version"]) if isinstance(packages, list) and packages else ""
    return FrozenKernel(name, spec, options, version or str(identity.get("tree", "")), identity)
