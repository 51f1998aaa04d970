from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from harness.errors import HostFault, ScenarioError
from harness.lab import root
from harness.lab.recipe import ROOT_RECIPE, load_root_recipe
from harness.lab.root import mmdebstrap, preferences, python_requirements, require_tools


def test_the_recipe_of_the_project() -> None:
    recipe = load_root_recipe()
    assert {"dropbear-bin", "python3", "qemu-system-x86"} <= set(recipe.packages)
    assert all(recipe.source(file.source).is_file() for file in recipe.files.values())


def test_only_what_the_recipe_says_comes_from_backports() -> None:
    assert preferences(load_root_recipe()).splitlines() == [
        "Package: src:qemu src:seabios",
        "Pin: release n=trixie-backports",
        "Pin-Priority: 990",
    ]


def test_a_mistake_in_the_recipe_is_named_with_its_line(tmp_path: Path) -> None:
    broken = tmp_path / "lab.yaml"
    broken.write_text(ROOT_RECIPE.read_text().replace("suite: trixie", "suite: trixie\nsweet: trixie"))
    with pytest.raises(ScenarioError, match="sweet") as fault:
        load_root_recipe(broken)
    assert "sweet" in broken.read_text().splitlines()[fault.value.line - 1]


def test_a_file_that_is_missing_is_named_with_its_line(tmp_path: Path) -> None:
    copy = tmp_path / "lab.yaml"
    copy.write_text(ROOT_RECIPE.read_text())
    with pytest.raises(ScenarioError, match="lab/inittab is not a file in") as fault:
        load_root_recipe(copy)
    assert "inittab" in copy.read_text().splitlines()[fault.value.line - 1]


def test_the_lab_has_what_the_harness_imports_and_no_tools_of_developers() -> None:
    names = {Requirement(line).name for line in python_requirements()}
    assert {"pydantic", "paramiko", "qemu.qmp"} <= names
    assert not {"ruff", "mypy", "distributed"} & names


def test_both_suites_are_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DEBIAN_MIRROR", "http://mirror.example/debian/")
    words = mmdebstrap(load_root_recipe(), "3.13", Path("/scratch"), Path("/stage/root.ext2"))
    assert words[-4:] == [
        "trixie",
        "/stage/root.ext2",
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-backports main",
    ]


def test_a_missing_tool_is_the_hosts_fault_and_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root, "TOOLS", {"no-such-bootstrap": "no-such-package"})
    with pytest.raises(HostFault, match="no-such-bootstrap") as fault:
        require_tools("no-such-bootstrap")
    assert fault.value.hint == "apt-get install no-such-package"


def test_a_temporary_folder_with_spaces_is_one_word_of_each_hook(tmp_path: Path) -> None:
    scratch = tmp_path / "a b"
    hooks = [
        shlex.split(word.partition("=")[2])
        for word in mmdebstrap(load_root_recipe(), "3.13", scratch, tmp_path / "root.ext2")
        if "hook=" in word and str(scratch) in word
    ]
    assert [words[1] for words in hooks] == [f"{scratch}/{name}" for name in ("preferences", "packages", "files")]
