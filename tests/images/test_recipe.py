from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.images.recipe import load_recipe

GOOD = """\
packages:
  suite: bookworm
  names: [busybox-static]
programs: [/bin/busybox]
helpers: {}
files:
  /init: {source: init, mode: 0o755}
modules:
  boot: [virtio_net]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "init").touch()
    return tmp_path


def load(folder: Path, text: str) -> None:
    (folder / "x.yaml").write_text(text)
    load_recipe(folder / "x.yaml")


def test_base_recipe_is_right() -> None:
    recipe = load_recipe()
    assert recipe.files["/init"].mode == 0o755
    assert "kvm_amd" in recipe.modules.carried


def test_good_one_loads(folder: Path) -> None:
    load(folder, GOOD)


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("programs:", "programms:", 4, "programms: extra inputs are not permitted"),
        ("[busybox-static]", "[]", 3, "names: tuple should have at least 1 item"),
        ("0o755", "rwx", 7, "mode: input should be a valid integer"),
        ("0o755", "0o70000", 7, "mode: input should be less than or equal to 4095, found 28672"),
        ("[/bin/busybox]", "[bin/busybox]", 4, "0: string should match pattern '^(/[^/]+)+$', found 'bin/busybox'"),
        ("source: init", "source: inti", 7, "no such file"),
        ("[virtio_net]", "[../x]", 9, "found '../x'"),
        ("suite: bookworm", "suite: [", 4, "not YAML"),
    ],
)
def test_faults_carry_file_and_line(folder: Path, old: str, new: str, line: int, what: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(folder, GOOD.replace(old, new))
    message = str(caught.value)
    assert f"x.yaml:{line}: " in message
    assert what in message


def test_not_a_mapping(folder: Path) -> None:
    with pytest.raises(ScenarioError, match=r"x\.yaml:1: a recipe is a mapping"):
        load(folder, "- a\n")
