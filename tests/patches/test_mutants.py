"""The mutants, the claims they name and the table in docs/mutants.md agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.scenario.load import reference_claims

PROJECT = Path(__file__).parents[2]
MUTANTS = sorted((PROJECT / "patches" / "mutants").glob("*/*.patch"))
ROW = re.compile(r"^\| `(?P<id>[a-z0-9-]+)` \| (?P<claims>[a-z0-9, -]+) \|", re.MULTILINE)


def trailers(patch: Path) -> dict[str, str]:
    """The trailers of a mutant's mail, by name. Those after the diff begins do not count."""
    mail = patch.read_text().split("\n---\n", maxsplit=1)[0]
    return dict(re.findall(r"^([A-Z][a-z]+): (.+)$", mail, re.MULTILINE))


def documented() -> dict[str, str]:
    return {row["id"]: row["claims"] for row in ROW.finditer((PROJECT / "docs" / "mutants.md").read_text())}


@pytest.mark.parametrize("patch", MUTANTS, ids=lambda patch: patch.stem)
def test_trailers_are_complete_and_name_known_claims(patch: Path) -> None:
    found = trailers(patch)
    assert found["Mutant"] == patch.stem
    assert found["Subject"].startswith("[MUTANT] KVM")
    assert found["Kernels"] == f"debian:{patch.parent.name}"
    unknown = set(found["Claims"].split(", ")) - reference_claims().keys()
    assert not unknown


@pytest.mark.parametrize("patch", MUTANTS, ids=lambda patch: patch.stem)
def test_touches_only_what_kvm_modules_are_built_from(patch: Path) -> None:
    touched = re.findall(r"^\+\+\+ b/(.+)$", patch.read_text(), re.MULTILINE)
    assert touched
    assert all(path.startswith(("virt/kvm/", "arch/x86/kvm/")) for path in touched)


def test_every_mutant_has_a_row_with_its_claims() -> None:
    assert documented() == {patch.stem: trailers(patch)["Claims"] for patch in MUTANTS}


def test_trailers_after_the_separator_do_not_count(tmp_path: Path) -> None:
    patch = tmp_path / "late.patch"
    patch.write_text("Subject: [MUTANT] KVM: late\n\nMutant: late\n---\nClaims: misc-register-last\n")
    assert trailers(patch) == {"Subject": "[MUTANT] KVM: late", "Mutant": "late"}
