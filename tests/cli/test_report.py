"""`harness report`: what goes where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli import cli
from harness.errors import UsageError
from harness.paths import runs_in
from harness.report.folders import write_batch
from harness.report.result import RunResult
from tests.report.run_folders import CONFIRMED, VIOLATED, copied, judged
from tests.report.runs import not_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    copied(CONFIRMED, tmp_path / "runs" / "a")
    copied(VIOLATED, tmp_path / "runs" / "b")
    return tmp_path / "runs"


def report(*words: str | Path) -> Result:
    done = CliRunner().invoke(cli, ["report", *map(str, words)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done


def test_a_page_goes_into_the_run_s_folder(runs: Path) -> None:
    assert report(runs / "b").output == f"{runs / 'b' / 'report.html'}\n"
    assert "Violated" in (runs / "b" / "report.html").read_text()
    assert not (runs / "index.html").exists()


def test_several_have_an_index_beside_them(runs: Path) -> None:
    for words in ([runs], [runs / "a", runs / "b"]):
        done = report(*words)
        assert done.output.splitlines()[-1] == str(runs / "index.html")
        assert 'href="b/report.html' in (runs / "index.html").read_text()
        (runs / "index.html").unlink()


def test_the_index_of_runs_from_everywhere_needs_a_place(runs: Path, tmp_path: Path) -> None:
    elsewhere = copied(VIOLATED, tmp_path / "elsewhere" / "c")
    with pytest.raises(UsageError, match="no folder in common"):
        report(runs / "a", elsewhere)
    report(runs / "a", elsewhere, "-o", tmp_path / "all.html")
    assert 'href="elsewhere/c/report.html' in (tmp_path / "all.html").read_text()


def test_a_trace_goes_into_the_folder_or_where_it_is_wanted(runs: Path, tmp_path: Path) -> None:
    report(runs, "--format", "trace")
    assert json.loads((runs / "a" / "trace.json").read_text())["traceEvents"]
    assert json.loads(report(runs / "a", "--format", "trace", "-o", "-").output)["traceEvents"]
    with pytest.raises(UsageError, match="2 runs do not fit into one trace"):
        report(runs, "--format", "trace", "-o", tmp_path / "trace.json")


def test_text_and_the_formats_of_others_go_to_stdout_or_into_one_file(runs: Path, tmp_path: Path) -> None:
    text = report(runs, "--format", "text").output
    assert "Violated" in text and "claims confirmed" in text
    assert report(runs, "--format", "junit").output.startswith("<?xml")
    report(runs, "--format", "ktap", "-o", tmp_path / "all.ktap")
    assert (tmp_path / "all.ktap").read_text().startswith("KTAP version 1\n1..2")


def test_an_interrupted_batch_is_not_green(runs: Path) -> None:
    with runs_in(runs):
        batch = write_batch([RunResult.of(*judged(runs / "a"), 1.0)], [not_run()]).parent
    assert 'errors="1"' in report(batch, "--format", "junit").output
    assert CliRunner().invoke(cli, ["judge", str(runs / "a")], standalone_mode=False).return_value == 0
    assert CliRunner().invoke(cli, ["judge", str(batch)], standalone_mode=False).return_value == 4


def test_wrong_input_is_said_before_anything_is_written(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the folder of a run"):
        report(runs / "missing")
    with pytest.raises(UsageError, match="cannot write"):
        report(runs / "a", "-o", tmp_path / "no" / "folder.html")
    assert not (runs / "a" / "report.html").exists()
