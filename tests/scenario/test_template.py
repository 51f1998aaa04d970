"""Templates: each is a scenario as it is, whatever its title and kernels are."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ScenarioError, UsageError
from harness.scenario.load import build_scenario, load_scenario, scenario_files
from harness.scenario.model import Scenario
from harness.scenario.template import KINDS, from_scenario, from_template
from harness.scenario.yaml_file import parse_yaml

SCHEMA = Path("/schema.json")
TARGET = Path("my-patch.yaml")


def loaded(text: str) -> Scenario:
    return build_scenario(parse_yaml(TARGET, text))


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_is_a_scenario_that_teaches(kind: str) -> None:
    text = from_template(kind, TARGET, "", ["debian:6.12", "debian:7.3 +check-at-entry"], SCHEMA)
    scenario = loaded(text)
    assert scenario.title == KINDS[kind]
    assert [use.claim.id for use in scenario.claims] == ["my-patch"]
    assert scenario.kernels == ["debian:6.12", "debian:7.3 +check-at-entry"]
    assert text.startswith(f"# yaml-language-server: $schema={SCHEMA}\n")
    assert text.count("#") >= 10 and "harness run my-patch.yaml" in text
    assert max(map(len, text.splitlines())) < 160


@pytest.mark.parametrize(
    "title", ["a: b # c", "'quoted' \"twice\"", "two\nlines", "{{ braces }}", "on", "- x", "→ é"]
)
def test_a_title_is_text_whatever_is_in_it(title: str) -> None:
    expected = " ".join(title.split())
    assert loaded(from_template("load", TARGET, title, ["debian:6.12"], SCHEMA)).title == expected
    demo = scenario_files()[0]
    assert loaded(from_scenario(demo, TARGET, title, [], SCHEMA)).title == expected


@pytest.mark.parametrize("path", scenario_files()[::4], ids=lambda path: path.stem)
def test_a_scenario_from_another_is_that_one_but_for_what_was_asked(path: Path) -> None:
    source = load_scenario(path)
    same = loaded(from_scenario(path, TARGET, "", [], SCHEMA))
    assert same == source.model_copy(update={"path": TARGET})
    other = loaded(from_scenario(path, TARGET, "mine", ["debian:7.3"], SCHEMA))
    changed = {"path": TARGET, "title": "mine", "kernels": ["debian:7.3"]}
    assert other == source.model_copy(update=changed)


def test_a_modeline_of_before_is_replaced(tmp_path: Path) -> None:
    first = tmp_path / "first.yaml"
    first.write_text(from_template("load", first, "", ["debian:6.12"], Path("/old.json")))
    assert "/old.json" not in from_scenario(first, TARGET, "", [], SCHEMA)


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not an id"):
        from_template("load", Path("My Patch.yaml"), "", ["debian:6.12"], SCHEMA)
    with pytest.raises(UsageError, match="no template 'raec'"):
        from_template("raec", TARGET, "", ["debian:6.12"], SCHEMA)
    (tmp_path / "bad.yaml").write_text("title: x\n")
    with pytest.raises(ScenarioError, match=r"bad\.yaml"):
        from_scenario(tmp_path / "bad.yaml", TARGET, "", [], SCHEMA)
