"""`harness matrix` and `harness worker` as commands: a whole night without a guest, summaries, and wrong words."""

from __future__ import annotations

import json
import xml.etree.ElementTree as Xml
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.errors import Exit, UsageError
from harness.fleet.matrix import load_matrix
from harness.fleet.night import begin, nights_of
from tests.fleet.site import HerePool, Site, make_site, replay


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    return make_site(tmp_path)


def harness(*words: object) -> tuple[int, str]:
    """Exit status and stdout; errors of the harness are raised."""
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)
    return result.return_value, result.stdout


def test_a_night_of_a_kernel_that_does_not_build(site: Site) -> None:
    site.commit("nonsense\n", "does not compile")
    path = site.matrix()
    code, said = harness("matrix", path, "--json", site.folder / "n.json", "--junit", site.folder / "n.xml")
    assert code == Exit.NOT_EXERCISED
    assert "init/main.c:1: error: this does not compile" in said
    assert "0 of 5 claims are as declared" in said
    document = json.loads((site.folder / "n.json").read_text())
    assert (document["state"], document["exit"], document["kernels"][0]["exit"]) == ("finished", 4, 4)
    assert {line["verdict"] for line in document["lines"]} == {"not exercised"}
    cases = Xml.parse(site.folder / "n.xml").findall(".//testcase")
    assert len(cases) == 5
    assert all(case.find("error") is not None for case in cases), "not run is no pass"


def test_summaries_of_the_nights_so_far(site: Site) -> None:
    path = site.matrix()
    matrix = load_matrix(path)
    for what in ("green", "red"):
        site.script(master=what)
        site.commit(f"valid: {what}\n", f"made {what}")
        with nights_of(matrix) as nights:
            begin(matrix, nights, HerePool()).run(replay)
    code, said = harness("matrix", path, "--summary", "--night", 1)
    assert (code, "exit status 0" in said) == (0, True)
    code, said = harness("matrix", path, "--summary", "--ktap", site.folder / "n.ktap")
    assert (code, "made red" in said, "1 commit" in said) == (1, True, True)
    assert (site.folder / "n.ktap").read_text().startswith("KTAP version 1\n")
    code, said = harness("matrix", path, "--summary", "--json", "-")
    assert json.loads(said)["night"] == 2
    code, _ = harness("matrix", path, "--resume")
    assert code == 0, "nothing is unfinished"
    with pytest.raises(UsageError, match="there is no night 9 of nightly") as error:
        harness("matrix", path, "--summary", "--night", 9)
    assert error.value.expected == "one of the last: 1, 2"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--night", "3"], "--night says which night"),
        (["--new", "--resume"], "exclude each other"),
        (["--summary"], "there are no results yet"),
        (["--json", "/nowhere/x.json"], "cannot write"),
        (["--junit", "-", "--ktap", "-"], "cannot both go to -"),
        (["--junit", "-", "--json", "-"], "there is one stdout"),
    ],
)
def test_wrong_words(words: list[str], said: str, site: Site) -> None:
    with pytest.raises(UsageError, match=said):
        harness("matrix", site.matrix(), *words)
    assert not site.matrix().with_suffix(".sqlite").exists()


def test_what_stands_in_the_help_is_a_matrix(site: Site) -> None:
    _, said = harness("matrix", "--help")
    for word in ("kernels:", "scenarios:", "engines:", "--resume", "--summary", "--scheduler"):
        assert word in said
