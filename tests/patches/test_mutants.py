"""The mutants, the claims they name and the table in docs/mutants.md agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.mutants.mutant import MUTANTS, load_mutant
from harness.paths import PROJECT

PATCHES = sorted(MUTANTS.glob("*/*.patch"))
ROW = re.compile(r"^\| `(?P<id>[a-z0-9-]+)` \| (?P<claims>[a-z0-9, -]+) \|", re.MULTILINE)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_trailers_are_complete(patch: Path) -> None:
    mutant = load_mutant(patch)
    assert mutant.id == patch.stem
    assert mutant.subject.startswith("KVM: ")
    assert mutant.claims
    assert mutant.kernels == (f"debian:{patch.parent.name}",)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_touches_only_what_kvm_modules_are_built_from(patch: Path) -> None:
    touched = re.findall(r"^\+\+\+ b/(.+)$", patch.read_text(), re.MULTILINE)
    assert touched
    assert all(path.startswith(("virt/kvm/", "arch/x86/kvm/")) for path in touched)


def test_every_mutant_has_a_row_with_its_claims() -> None:
    rows = ROW.finditer((PROJECT / "docs" / "mutants.md").read_text())
    documented = {row["id"]: tuple(row["claims"].split(", ")) for row in rows}
    assert documented == {patch.stem: load_mutant(patch).claims for patch in PATCHES}
