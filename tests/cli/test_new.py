"""`harness new`: a file that runs as it is, and never in the place of another."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from harness.cli import cli
from harness.errors import UsageError
from harness.paths import PROJECT
from harness.scenario.load import load_scenario
from harness.scenario.template import KINDS
from harness.scenario.yaml_file import read_yaml


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def harness(*words: str) -> Result:
    return CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False)


def test_the_file_follows_the_schema_that_its_first_line_names(own_cache: Path) -> None:
    done = harness("new", "my-patch", "--kernel", "debian:7.3")
    assert done.return_value == 0 and "harness run my-patch.yaml" in done.output
    text = Path("my-patch.yaml").read_text()
    schema = Path(text.splitlines()[0].partition("$schema=")[2])
    assert schema.is_relative_to(own_cache)
    jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(read_yaml(Path("my-patch.yaml")).data)
    assert load_scenario(Path("my-patch.yaml")).kernels == ["debian:7.3"]


def test_another_scenario_is_taken_up(own_cache: Path) -> None:
    source = PROJECT / "scenarios" / "demo.yaml"
    harness("new", "mine.yaml", "--from", str(source), "--title", "mine")
    assert load_scenario(Path("mine.yaml")).title == "mine"
    assert load_scenario(Path("mine.yaml")).steps == load_scenario(source).steps


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["there"], "there.yaml is there already"),
        (["there.yaml", "--kind", "race"], "there.yaml is there already"),
        (["dangling"], "dangling.yaml is there already"),
        (["no/such/folder/x"], "cannot write no/such/folder/x.yaml"),
        (["x", "--kind", "load", "--from", "there.yaml"], "--kind and --from"),
        (["x", "--from", "missing.yaml"], "cannot read missing.yaml"),
        (["x", "--from", "there.yaml"], "there.yaml:1"),
        (["Not An Id"], "is not an id"),
    ],
)
def test_what_is_there_stays_and_what_is_wrong_is_said(own_cache: Path, words: list[str], message: str) -> None:
    Path("there.yaml").write_text("mine: stay\n")
    Path("dangling.yaml").symlink_to("nowhere")
    with pytest.raises(UsageError, match=message):
        harness("new", *words)
    assert Path("there.yaml").read_text() == "mine: stay\n"
    assert not Path("x.yaml").exists() and not Path("nowhere").exists()


@pytest.mark.boot
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_template_is_confirmed_as_it_is(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    harness("new", "mine", "--kind", kind)
    assert harness("run", "mine.yaml").return_value == 0
