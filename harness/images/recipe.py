"""What goes into a guest image: the YAML files in guest-images/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from harness.paths import PROJECT
from harness.scenario.faults import Faults
from harness.scenario.yaml_file import read_yaml

BASE_RECIPE = PROJECT / "guest-images" / "base.yaml"

GuestPath = Annotated[str, StringConstraints(pattern=r"^(/[^/]+)+$")]  # absolute: /sbin/init
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PackageSet(_Frozen):
    """Debian packages that programs are taken from."""

    suite: str  # decides the versions; the newest of the suite at the time of the build
    names: Annotated[tuple[str, ...], Field(min_length=1)]


class SourceFile(_Frozen):
    """A file that is copied as it is."""

    source: Path  # relative to the recipe
    mode: Annotated[int, Field(ge=0, le=0o7777)] = 0o644


class ModuleSet(_Frozen):
    """Kernel modules, by name."""

    boot: tuple[ModuleName, ...] = ()  # loaded by /init in this order; a kernel without one of them is refused
    carried: tuple[ModuleName, ...] = ()  # put into the image where the kernel has them


class Recipe(_Frozen):
    """A guest image's recipe; `path` is the YAML file, and its folder the base of the paths in it."""

    path: Path
    packages: PackageSet
    programs: tuple[GuestPath, ...]  # taken from the packages, each with its shared libraries
    helpers: dict[GuestPath, Path]  # C sources, one static program each
    files: dict[GuestPath, SourceFile]
    links: dict[GuestPath, str] = {}  # symbolic links and their targets
    folders: tuple[GuestPath, ...] = ()  # empty ones: mount points
    modules: ModuleSet = ModuleSet()

    def source(self, relative: Path) -> Path:
        """Where a file that the recipe names lies on the host."""
        return self.path.parent / relative


def load_recipe(path: Path = BASE_RECIPE) -> Recipe:
    """Reads a recipe. Raises ScenarioError with file and line of the first fault, and the others as evidence."""
    document = read_yaml(path)
    faults = Faults(document)
    if not isinstance(document.data, dict) or "path" in document.data:
        raise document.error(("path",), "a recipe is a mapping with packages, programs, helpers and files")
    try:
        recipe = Recipe.model_validate({**document.data, "path": path})
    except ValidationError as error:
        for fault in error.errors():
            found = f", found {fault['input']!r}" if isinstance(fault["input"], str | int) else ""
            name = fault["loc"][-1]
            faults.add(fault["loc"], f"{name}: {fault['msg'][:1].lower()}{fault['msg'][1:]}{found}")
        faults.raise_if_any()
        raise
    _check_sources(recipe, faults)
    faults.raise_if_any()
    return recipe


def _check_sources(recipe: Recipe, faults: Faults) -> None:
    for guest_path, helper in recipe.helpers.items():
        if not recipe.source(helper).is_file():
            faults.add(("helpers", guest_path), f"no such file: {recipe.source(helper)}")
    for guest_path, file in recipe.files.items():
        if not recipe.source(file.source).is_file():
            faults.add(("files", guest_path), f"no such file: {recipe.source(file.source)}")
