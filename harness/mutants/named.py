"""A kernel as tables name it: a spec, and the project's mutants in it. `debian:6.12 +check-at-entry`."""

from __future__ import annotations

from dataclasses import replace

from harness.errors import UsageError
from harness.kernels import BuildOptions, with_patches
from harness.kernels.resolve import parse
from harness.mutants.mutant import project_mutant
from harness.scenario.model import Scenario
from harness.scenario.yaml_file import read_yaml

_PLUS = " +"  # with a space: debian-source:7.3+tdx is a spec


def named_kernel(name: str, options: BuildOptions | None = None) -> tuple[str, BuildOptions]:
    """The spec in `name`, and how its mutants get into it, under whatever `options` do to it.

    `Job.label` makes the same name again. Raises UsageError for a mutant that there is not, and for an unknown spec.
    """
    options = options or BuildOptions()
    spec, *ids = (word.strip() for word in name.split(_PLUS))
    parse(spec)
    if not ids:
        return spec, options
    patches = (*(project_mutant(id, spec).path for id in ids), *options.patches)
    modules_only = options.modules_only or with_patches(spec, patches).modules_only
    return spec, replace(options, patches=patches, modules_only=modules_only)


def kernel_of(scenario: Scenario, name: str, options: BuildOptions | None = None) -> tuple[str, BuildOptions]:
    """The same for a kernel to run `scenario` on; for one of its `kernels`, raises ScenarioError at that line."""
    try:
        return named_kernel(name, options)
    except UsageError as error:
        if name not in scenario.kernels:
            raise
        where = ("kernels", scenario.kernels.index(name))
        raise read_yaml(scenario.path).error(where, error.what, error.hint or error.expected) from error
