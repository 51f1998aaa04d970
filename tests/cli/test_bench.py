"""harness bench, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.bench.figures import Missing, Results
from harness.bench.images import CACHED, COLD
from harness.bench.turns import Section
from harness.cli.bench import bench
from harness.errors import Exit, HostFault


@pytest.mark.network
def test_one_round_of_images(tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    result = CliRunner().invoke(
        bench,
        ["--rounds", "1", "--only", "image", "--json", str(target)],
        catch_exceptions=False,
        standalone_mode=False,
    )
    assert result.return_value == Exit.CONFIRMED
    [section] = json.loads(target.read_text())["sections"]
    assert section["missing"] == []
    assert {figure["name"]: figure["n"] for figure in section["figures"]} == {COLD: 1, CACHED: 1}
    assert COLD in result.stdout


def test_something_missing_is_exit_status_3(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(section: Section, rounds: int) -> Results:
        return Results(section.name, (), (), (Missing("x", HostFault("no network")),))

    monkeypatch.setattr("harness.bench.turns.measure", measured)
    result = CliRunner().invoke(
        bench, ["--only", "image", "--json", "-"], catch_exceptions=False, standalone_mode=False
    )
    assert result.return_value == Exit.HARNESS_FAULT
    [section] = json.loads(result.stdout)["sections"]
    assert section["missing"][0]["text"] == "no network"


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--only", "boots"]])
def test_bad_input(words: list[str]) -> None:
    assert CliRunner().invoke(bench, words).exit_code == Exit.USAGE
