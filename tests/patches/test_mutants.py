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
ROW = re.compile(r"^\| `(?P<id>[a-z0-9-]+)` \| (?P<claims>[a-z0-9, -]+) \|", re.MULTILINE)
# Folder -> the kernel it is for. Of Debian's only the KVM modules are rebuilt; a kernel from source is, as a whole.
KERNELS = {"6.12": "debian:6.12", "7.3": "debian-source:7.3+tdx"}
KVM_MODULES = ("virt/kvm/", "arch/x86/kvm/")
SOURCES = {"6.12": KVM_MODULES, "7.3": (*KVM_MODULES, "arch/x86/virt/", "arch/x86/kernel/")}


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_trailers_are_complete(patch: Path) -> None:
    mutant = load_mutant(patch)
    assert mutant.id == patch.stem
    assert re.match(r"(KVM|x86/[a-z/]+): ", mutant.subject)
    assert mutant.claims
    assert mutant.kernels == (KERNELS[patch.parent.name],)
    assert set(mutant.engines) <= {engine.name for engine in ENGINES}


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_touches_only_what_is_built_for_it(patch: Path) -> None:
    touched = re.findall(r"^\+\+\+ b/(.+)$", patch.read_text(), re.MULTILINE)
    assert touched
    assert all(path.startswith(SOURCES[patch.parent.name]) for path in touched)


def test_ids_are_unique_over_all_kernels() -> None:
    assert len({patch.stem for patch in PATCHES}) == len(PATCHES)


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


def test_every_mutant_has_a_row_with_its_claims() -> None:
    rows = ROW.finditer((PROJECT / "docs" / "mutants.md").read_text())
    documented = {row["id"]: tuple(row["claims"].split(", ")) for row in rows}
    assert documented == {patch.stem: load_mutant(patch).claims for patch in PATCHES}
