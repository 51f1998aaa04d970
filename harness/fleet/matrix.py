"""nightly.yaml: the kernels, scenarios and engines that a night is made of.

Read as scenarios are: every fault has its line, and all of them are told before anything is built or booted.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator
from pydantic.json_schema import SkipJsonSchema

from harness.errors import HarnessError, ScenarioError, UsageError
from harness.kernels.model import BuildOptions
from harness.kernels.resolve import parse
from harness.kernels.source import Recipe
from harness.machine.engine import AUTO, NAMES
from harness.mutants.named import named_kernel
from harness.scenario.faults import Faults, closest
from harness.scenario.kinds import Seconds
from harness.scenario.load import REFERENCE_CLAIMS, build_model, load_scenario
from harness.scenario.model import Scenario
from harness.scenario.schema import Untitled
from harness.scenario.yaml_file import Document, Location, read_yaml


def _jobs(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError(f"{value!r} is neither a number of runs, from 1 on, nor auto")


Jobs = Annotated[
    int | Literal["auto"],
    PlainValidator(_jobs, json_schema_input_type=Annotated[int, Field(ge=1)] | Literal["auto"]),
]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True
    )


class KernelEntry(_Frozen):
    """A kernel of the matrix: `debian:6.12 +check-at-entry`, or `{kernel: git:~/linux@master, config: [kvm]}`."""

    kernel: str
    """Its spec, with the project's mutants behind ` +`."""
    name: str = ""
    """What it is called in tables and in the database; without one, the kernel with its patches."""
    patches: list[str] = []
    """Files, from the folder of the matrix."""
    config: list[str] = []
    """Fragments: names of the project's, or files."""
    modules_only: str = ""
    """Builds only these modules: `kvm`."""

    @property
    def label(self) -> str:
        """What the kernel is called from one night to the next; a scenario's `known` goes by it."""
        return self.name or " +".join([self.kernel, *(Path(patch).stem for patch in self.patches)])

    def source(self, folder: Path) -> tuple[str, BuildOptions]:
        """The spec, and what is done to it. Files are looked for in `folder`. Raises UsageError."""
        options = BuildOptions(
            patches=tuple(_beside(folder, patch) for patch in self.patches),
            config_fragments=tuple(str(_beside(folder, one)) if "/" in one else one for one in self.config),
            modules_only=self.modules_only,
        )
        spec, options = named_kernel(self.kernel, options)
        parse(spec).check(Recipe.read(options))
        return spec, options


def _beside(folder: Path, name: str) -> Path:
    return (folder / Path(name).expanduser()).resolve()


class Exclusion(_Frozen):
    """Cells that are left out, by patterns of names."""

    kernel: str = "*"
    scenario: str = "*"
    engine: str = "*"
    why: str = ""

    def covers(self, kernel: str, scenario: str, engine: str) -> bool:
        pairs = ((kernel, self.kernel), (scenario, self.scenario), (engine, self.engine))
        return all(fnmatch.fnmatchcase(name, pattern) for name, pattern in pairs)


class Matrix(_Frozen):
    """The whole of a matrix file."""

    document: SkipJsonSchema[Document]
    kernels: Annotated[list[KernelEntry], Field(min_length=1)]
    """Kernels by their specs, or mappings."""
    scenarios: Annotated[list[str], Field(min_length=1)]
    """Paths, folders and globs, from the folder of this file."""
    engines: Annotated[list[str], Field(min_length=1)] = [AUTO]
    """Each scenario is run on each."""
    exclude: list[Exclusion] = []
    """Cells that are left out."""
    repeat: Annotated[int, Field(ge=1)] = 1
    """Runs of each cell."""
    retry: Annotated[int, Field(ge=0)] = 1
    """More runs, for a cell of which none was as declared."""
    jobs: Jobs = "auto"
    """Runs at a time on this host; `auto`: one per CPU, as far as there is memory."""
    deadline: Seconds = 900.0
    """Of one run."""
    build: Seconds = 7200.0
    """Of one kernel's build."""
    free: Annotated[int, Field(ge=0)] = 1024
    """MiB that must be free before a run begins."""
    window: Annotated[int, Field(ge=1)] = 10
    """Nights that a rate of flakiness looks back."""
    patience: Seconds = 300.0
    """How long a cell waits for a worker of a lab that has what it needs."""
    results: str = ""
    """The database; without it, this file's name with .sqlite."""

    @property
    def path(self) -> Path:
        return self.document.path

    @property
    def name(self) -> str:
        """What the nights of this matrix are called in the database."""
        return self.path.stem

    @property
    def folder(self) -> Path:
        return self.path.resolve().parent

    @property
    def database(self) -> Path:
        return _beside(self.folder, self.results) if self.results else self.path.resolve().with_suffix(".sqlite")

    @cached_property
    def sources(self) -> dict[str, tuple[str, BuildOptions]]:
        """Per kernel's label, its spec and what is done to it."""
        return {entry.label: entry.source(self.folder) for entry in self.kernels}

    def scenario_paths(self, pattern: str) -> list[Path]:
        """The scenario files that a glob means, or those in a folder; the list of claims is none.

        Raises RuntimeError for the home of a user that there is not.
        """
        wanted = str(self.folder / Path(pattern).expanduser())
        found = map(Path, glob.glob(wanted, recursive=True))  # noqa: PTH207 -- Path.glob takes no absolute pattern
        files = [file for path in found for file in (path.rglob("*.yaml") if path.is_dir() else [path])]
        return sorted(file for file in files if file.name != REFERENCE_CLAIMS.name)

    @cached_property
    def loaded(self) -> dict[str, Scenario]:
        """Every scenario, permutations apart, by what it is called. Raises ScenarioError for a fault in one of them.

        Two folders may each have a `reboot.yaml`, so that the name is the path from the folder of this file.
        """
        paths = dict.fromkeys(path for pattern in self.scenarios for path in self.scenario_paths(pattern))
        variants = (variant for path in paths for variant in load_scenario(path).variants())
        return {os.path.relpath(one.path.with_name(one.name), self.folder): one for one in variants}

    def fault(self, location: Location, error: HarnessError) -> ScenarioError:
        """`error` at its line."""
        fault = self.document.error(location, error.what, error.hint or error.expected)
        fault.evidence = error.evidence
        return fault


def matrix_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of matrix files."""
    schema = Matrix.model_json_schema(schema_generator=Untitled)
    kernels = schema["properties"]["kernels"]
    kernels["items"] = {"anyOf": [{"type": "string"}, kernels["items"]]}
    required = [key for key in schema["required"] if key != "document"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "matrix",
        "required": required,
    }


def load_matrix(path: Path) -> Matrix:
    """Reads and checks a matrix. Raises ScenarioError that lists its faults, UsageError for no such file."""
    document = read_yaml(path)
    faults = Faults(document)
    if not isinstance(document.data, dict):
        raise document.error((), "a matrix is a mapping with kernels and scenarios")
    if "document" in document.data:
        raise document.error(("document",), "unknown key 'document'", closest("document", Matrix.model_fields))
    data = {**document.data, "document": document}
    if isinstance(data.get("kernels"), list):
        data["kernels"] = [_entry(item) for item in data["kernels"]]
    matrix = build_model(Matrix, data, (), faults)
    faults.raise_if_any()
    assert matrix is not None
    for check in (_check_kernels, _check_scenarios, _check_engines):
        check(matrix, faults)
    faults.raise_if_any()
    _ = matrix.loaded  # what is wrong with a scenario is told now as well
    return matrix


def _entry(item: Any) -> Any:
    return {"kernel": item} if isinstance(item, str) else item


def _check_kernels(matrix: Matrix, faults: Faults) -> None:
    seen: set[str] = set()
    for index, entry in enumerate(matrix.kernels):
        if entry.label in seen:
            faults.add(("kernels", index), f"{entry.label!r} stands here twice", "give one of them a `name`")
        seen.add(entry.label)
        try:
            entry.source(matrix.folder)
        except UsageError as error:
            faults.add(("kernels", index), error.what, error.hint or error.expected)


def _check_scenarios(matrix: Matrix, faults: Faults) -> None:
    hint = "a path or glob such as scenarios/**/*.yaml, from the folder of this file"
    for index, pattern in enumerate(matrix.scenarios):
        try:
            if not matrix.scenario_paths(pattern):
                faults.add(("scenarios", index), f"no scenario is meant by {pattern!r} in {matrix.folder}", hint)
        except RuntimeError as error:
            faults.add(("scenarios", index), f"{pattern!r}: {error}", hint)


def _check_engines(matrix: Matrix, faults: Faults) -> None:
    for index, name in enumerate(matrix.engines):
        if name not in (AUTO, *NAMES):
            faults.add(("engines", index), f"unknown engine {name!r}", closest(name, (AUTO, *NAMES)))
