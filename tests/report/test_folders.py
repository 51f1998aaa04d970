"""Which runs a folder stands for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import HostFault, UsageError
from harness.paths import runs_in
from harness.report.folders import BATCH, missing_runs, run_folders, write_batch
from harness.report.result import RunResult
from tests.report import runs as runs_to_report
from tests.report.run_folders import CONFIRMED, VIOLATED, copied, judged


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    copied(CONFIRMED, tmp_path / "a-run")
    copied(VIOLATED, tmp_path / "b-run")
    (tmp_path / "notes").mkdir()
    return tmp_path


def batch(runs: Path) -> Path:
    with runs_in(runs):
        return write_batch([RunResult.of(*judged(runs / name), 1.0) for name in ("b-run", "a-run")])


def test_a_batch_stands_for_its_runs_in_their_order(runs: Path) -> None:
    index = batch(runs)
    assert index.name == "index.html" and index.parent.parent == runs
    assert [folder.resolve() for folder in run_folders([index.parent])] == [runs / "b-run", runs / "a-run"]
    assert "../b-run/report.html#claim-" in index.read_text()


def test_what_a_batch_ended_before_is_no_less_of_it(runs: Path) -> None:
    missing = runs_to_report.not_run()
    with runs_in(runs):
        index = write_batch([RunResult.of(*judged(runs / "a-run"), 1.0)], [missing])
    assert missing_runs([index.parent, runs / "a-run"]) == [missing]
    page = index.read_text()
    assert "; 1 not run</h1>" in page and "not run: the batch was interrupted" in page
    assert '<header class="top harness_fault">' in page, "not green"
    assert missing_runs([batch(runs).parent]) == []


def test_batches_of_one_second_have_folders_of_their_own(runs: Path) -> None:
    assert len({batch(runs) for _ in range(3)}) == 3


def test_a_folder_of_runs_stands_for_them_and_each_counts_once(runs: Path) -> None:
    assert run_folders([runs]) == [runs / "a-run", runs / "b-run"]
    index = batch(runs)
    (runs / "index.html").write_text("an index of them all")
    everything = [*sorted(path for path in runs.iterdir() if path.name != "notes")]
    assert index.parent in everything
    assert {path.resolve() for path in run_folders(everything)} == {runs / "a-run", runs / "b-run"}
    assert len(run_folders(everything)) == 2


def test_what_is_no_run_is_left_to_who_reads_it(runs: Path) -> None:
    assert run_folders([runs / "missing"]) == [runs / "missing"]


def test_a_folder_without_runs_is_wrong_input(runs: Path) -> None:
    with pytest.raises(UsageError, match="neither the folder of a run nor one of runs"):
        run_folders([runs / "notes"])


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": 1}', '{"format": 2, "runs": []}', '{"format": 1, "runs": [3]}']
)
def test_a_broken_list_is_named(runs: Path, text: str) -> None:
    (runs / "notes" / BATCH).write_text(text)
    with pytest.raises(UsageError, match=r"batch\.json"):
        run_folders([runs / "notes"])


def test_a_batch_that_cannot_be_written_is_the_host_s_fault(runs: Path) -> None:
    (runs / "file").write_text(json.dumps({}))
    with runs_in(runs / "file"), pytest.raises(HostFault, match="cannot make"):
        write_batch([])
