"""A revision as a kernel: built whole, or as what has changed since the good one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bisection.history import Commit
from harness.bisection.plan import Plan
from harness.errors import UsageError
from harness.kernels.patches import read_patches
from harness.paths import PROJECT
from tests.bisection.histories import Repository, plain_history

SCENARIO = str(PROJECT / "scenarios/load-unload.yaml")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = plain_history(tmp_path / "linux", 3)
    made.commit("docs", {"Documentation/virt/kvm/locking.rst": "Locks.\n"})
    made.commit("reboot", {"arch/x86/kernel/reboot.c": "int reboot;\n"})
    return made


def plan(repository: Repository, kernel: str = "", bad: str = "docs") -> Plan:
    ids = repository.ids
    return Plan(str(repository.path), ids["c0"], ids[bad], (SCENARIO,), "tcg-svm", kernel, ("harness", "kvm"))


def test_without_a_kernel_the_revision_is_built_whole(tmp_path: Path, repository: Repository) -> None:
    commit = repository.ids["c1"]
    spec, options = plan(repository).revision(commit, tmp_path)
    assert spec == f"git:{repository.path}@{commit[:12]}"
    assert (options.patches, options.config_fragments, options.modules_only) == ((), ("harness", "kvm"), "")


def test_with_a_packaged_kernel_it_is_a_patch_to_its_modules(tmp_path: Path, repository: Repository) -> None:
    wanted = plan(repository, "debian:6.12")
    spec, options = wanted.revision(repository.ids["docs"], tmp_path)
    assert (spec, options.modules_only) == ("debian:6.12", "kvm")
    [patch] = read_patches(options.patches)
    assert patch.files == ("virt/kvm/kvm_main.c",), "documentation is not compiled"
    assert "-int version = 0;\n+int version = 2;\n" in patch.diffs[0].text
    assert wanted.revision(repository.ids["c0"], tmp_path)[1].patches == ()


def test_with_a_source_any_file_counts(tmp_path: Path, repository: Repository) -> None:
    wanted = plan(repository, "debian-source:7.3+tdx", "reboot")
    wanted.check()
    _, options = wanted.revision(repository.ids["reboot"], tmp_path)
    [patch] = read_patches(options.patches)
    assert "arch/x86/kernel/reboot.c" in patch.files
    assert options.modules_only == ""


def test_a_commit_to_the_kernel_image_cannot_be_told_by_modules(repository: Repository) -> None:
    plan(repository, "debian:6.12").check()
    with pytest.raises(UsageError, match="1 of 4 commits change what is not in the KVM modules") as caught:
        plan(repository, "debian:6.12", "reboot").check()
    assert "arch/x86/kernel/reboot.c" in caught.value.evidence


def test_a_plan_is_read_back(tmp_path: Path, repository: Repository) -> None:
    wanted = plan(repository, "debian:6.12")
    wanted.save(tmp_path)
    assert Plan.load(tmp_path) == wanted
    (tmp_path / "plan.json").write_text('{"format": 1, "activities": []}')
    with pytest.raises(UsageError, match="is not the plan of a bisection"):
        Plan.load(tmp_path)


def test_history_reads_a_repository(repository: Repository) -> None:
    history = plan(repository).history
    ids = repository.ids
    assert history.commit("main~4") == Commit(ids["c0"], "c0")
    assert [commit.title for commit in history.between(ids["c0"], ids["docs"])] == ["docs", "c2", "c1"]
    assert history.parents(ids["c1"]) == [ids["c0"]]
    assert history.files_of(ids["reboot"]) == ["arch/x86/kernel/reboot.c"]
    with pytest.raises(UsageError, match="has no revision '--help'"):
        history.commit("--help")
