"""The mutants, the claims they name and the table in docs/mutants.md agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.machine.engine import ENGINES
from harness.mutants.mutant import MUTANTS, load_mutant
from harness.paths import PROJECT
from harness.scenario.load import load_scenario, scenario_files

PATCHES = sorted(MUTANTS.glob("*/*.patch"))
ROW = re.compile(
    r"^\| `(?P<id>[a-z0-9-]+)` \| (?P<kernels>[a-z0-9.+, -]+) \| (?P<claims>[a-z0-9, -]+) \|", re.MULTILINE
)
# Folder -> the kernels that its patches may be for: those whose source has the same code.
KERNELS = {
    "6.1": {"debian:6.1"},
    "6.12": {"debian:6.12", "debian:7.3"},
    "7.3": {"debian:7.3", "debian-source:7.3+tdx"},
}
# Of Debian's kernels only the KVM modules are rebuilt; a kernel from source is, as a whole.
KVM_MODULES = ("virt/kvm/", "arch/x86/kvm/")
WHOLE = (*KVM_MODULES, "arch/x86/virt/", "arch/x86/kernel/")


def by_name(patch: Path) -> str:
    return f"{patch.parent.name}-{patch.stem}"


@pytest.mark.parametrize("patch", PATCHES, ids=by_name)
def test_trailers_are_complete(patch: Path) -> None:
    mutant = load_mutant(patch)
    assert mutant.id == patch.stem
    assert re.match(r"(KVM|x86/[a-z/]+): ", mutant.subject)
    assert mutant.claims
    assert mutant.kernels
    assert set(mutant.kernels) <= KERNELS[patch.parent.name]
    assert set(mutant.engines) <= {engine.name for engine in ENGINES}


@pytest.mark.parametrize("patch", PATCHES, ids=by_name)
def test_touches_only_what_is_built_for_it(patch: Path) -> None:
    touched = re.findall(r"^\+\+\+ b/(.+)$", patch.read_text(), re.MULTILINE)
    from_source = all(kernel.startswith("debian-source:") for kernel in load_mutant(patch).kernels)
    assert touched
    assert all(path.startswith(WHOLE if from_source else KVM_MODULES) for path in touched)


def test_ids_are_unique_for_every_kernel() -> None:
    for kernel in set().union(*KERNELS.values()):
        ids = [mutant.id for mutant in map(load_mutant, PATCHES) if mutant.suits(kernel)]
        assert sorted(ids) == sorted(set(ids)), kernel


def test_each_mutant_s_claims_have_a_scenario_on_its_kernel() -> None:
    scenarios = [load_scenario(path) for path in scenario_files()]
    undecided = {}
    for mutant in map(load_mutant, PATCHES):
        decided = {
            use.claim.id for found in scenarios if set(mutant.kernels) & set(found.kernels) for use in found.claims
        }
        if not set(mutant.claims) & decided:
            undecided[mutant.id] = mutant.claims
    assert undecided == {}


def test_every_mutant_has_a_row_with_its_kernels_and_claims() -> None:
    """A mutant of one id for several kernels has one row."""
    rows = list(ROW.finditer((PROJECT / "docs" / "mutants.md").read_text()))
    documented = {row["id"]: (row["kernels"], row["claims"]) for row in rows}
    assert len(documented) == len(rows)
    found: dict[str, tuple[str, str]] = {}
    for mutant in map(load_mutant, PATCHES):
        kernels = ", ".join(kernel.partition(":")[2] for kernel in mutant.kernels)
        if mutant.id in found:
            kernels = f"{found[mutant.id][0]}, {kernels}"
        found[mutant.id] = (kernels, ", ".join(mutant.claims))
    assert documented == found
