"""What the lab's root file system is made of: guest-images/lab.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.images.recipe import GuestPath, SourceFile
from harness.paths import PROJECT
from harness.scenario.yaml_file import read_yaml

ROOT_RECIPE = PROJECT / "guest-images" / "lab.yaml"


class RootRecipe(BaseModel):
    """Debian packages, and files of our own; `path` is the YAML file, and its folder the base of the paths in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    suite: str
    backports: tuple[str, ...]  # source packages that come from the suite's backports
    packages: tuple[str, ...]
    without: tuple[str, ...]  # dpkg's path-exclude: patterns of files that nobody reads there
    files: dict[GuestPath, SourceFile]

    def source(self, relative: Path) -> Path:
        """Where a file that the recipe names lies on the host."""
        return self.path.parent / relative


def load_root_recipe(path: Path = ROOT_RECIPE) -> RootRecipe:
    """Reads the recipe. Raises ScenarioError with file and line of the first fault."""
    document = read_yaml(path)
    if not isinstance(document.data, dict):
        raise document.error((), "a recipe is a mapping with suite, packages and files")
    try:
        recipe = RootRecipe.model_validate({**document.data, "path": path})
    except ValidationError as error:
        fault = error.errors()[0]
        raise document.error(fault["loc"], f"{fault['loc'][-1]}: {fault['msg']}") from error
    for place, file in recipe.files.items():
        if not recipe.source(file.source).is_file():
            raise document.error(("files", place), f"{file.source} is not a file in {path.parent}")
    return recipe
