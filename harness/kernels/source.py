"""Where a kernel comes from, as a spec `scheme:rest`; every scheme is one class, registered once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.kernels.diff import Patch
from harness.kernels.kconfig import Fragment, read_fragment
from harness.kernels.model import BuildOptions
from harness.kernels.patches import read_patches
from harness.kernels.store import Parts

MODULE_SETS = ("kvm",)  # what `modules_only` can be


@dataclass(frozen=True)
class Recipe:
    """BuildOptions with the files read: what is done to the source."""

    patches: tuple[Patch, ...] = ()
    fragments: tuple[Fragment, ...] = ()
    modules_only: str = ""

    @classmethod
    def read(cls, options: BuildOptions) -> Recipe:
        """Raises UsageError for a patch or fragment that cannot be used."""
        if options.modules_only and options.modules_only not in MODULE_SETS:
            raise UsageError(
                f"unknown module set {options.modules_only!r} in modules_only", expected=", ".join(MODULE_SETS)
            )
        return cls(
            patches=read_patches(options.patches),
            fragments=tuple(map(read_fragment, options.config_fragments)),
            modules_only=options.modules_only,
        )

    @property
    def identity(self) -> dict[str, object]:
        """What of it decides the bytes of the kernel (JSON)."""
        return {
            "patches": [patch.sha256 for patch in self.patches],
            "fragments": [fragment.sha256 for fragment in self.fragments],
            "modules_only": self.modules_only,
        }

    @property
    def provenance(self) -> dict[str, object]:
        """The same for people (JSON)."""
        return {
            "patches": [
                {"file": str(patch.origin), "subject": patch.subject, "sha256": patch.sha256}
                for patch in self.patches
            ],
            "config_fragments": [{"name": one.name, "sha256": one.sha256} for one in self.fragments],
            "modules_only": self.modules_only,
        }


class Source(ABC):
    """One spec. `identity` says what it stands for now; `make` turns an identity into files."""

    scheme: ClassVar[str]
    example: ClassVar[str]

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self.rest = spec.partition(":")[2]

    @abstractmethod
    def check(self, recipe: Recipe) -> None:
        """Raises UsageError when this source cannot honour `recipe`, or when the spec itself is wrong."""

    @abstractmethod
    def identity(self, deadline: Deadline, *, update: bool) -> Mapping[str, object]:
        """JSON that decides the source's bytes. `update`: look again instead of keeping to the last answer."""

    @abstractmethod
    def make(self, identity: Mapping[str, object], recipe: Recipe, stage: Path, deadline: Deadline) -> Parts:
        """Fetches or builds the kernel into the empty directory `stage`."""

    def refuse(self, what: str, hint: str) -> UsageError:
        return UsageError(f"{self.spec}: {what}", hint=hint)
