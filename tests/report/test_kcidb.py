"""KCIDB submissions, validated by its own library."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kcidb_io  # type: ignore[import-untyped]
import pytest

from harness.errors import UsageError
from harness.judge.verdict import Verdict
from harness.report.batch import Batch
from harness.report.kcidb import kcidb, parse_origin
from harness.report.result import RunResult
from tests.report import runs

WORDS = {Verdict.CONFIRMED: "PASS", Verdict.VIOLATED: "FAIL", Verdict.NOT_EXERCISED: "SKIP"}


def submission(batch: Batch) -> Any:
    data = json.loads(json.dumps(kcidb(batch)))
    kcidb_io.schema.LATEST.validate(data)
    return data


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (runs.confirmed, "PASS"),
        (runs.violated, "FAIL"),
        (runs.known, "FAIL"),  # what the kernel did, whoever knew
        (runs.stale, "PASS"),
        (runs.not_exercised, "SKIP"),
        (runs.faulty, "ERROR"),
    ],
)
def test_a_verdict_is_a_status(make: Callable[[], RunResult], status: str) -> None:
    (test,) = submission(Batch([make()]))["tests"]
    assert test["status"] == status
    assert test["path"] == "virt_ordering.t.c"


def test_every_claim_of_the_recorded_runs_is_a_test() -> None:
    results = runs.recorded()
    data = submission(Batch(results))
    claims = [claim for result in results for claim in result.judgement.claims]
    assert [test["status"] for test in data["tests"]] == [WORDS[claim.verdict] for claim in claims]
    assert len({test["id"] for test in data["tests"]}) == len(claims)
    builds = {build["id"] for build in data["builds"]}
    checkouts = {checkout["id"] for checkout in data["checkouts"]}
    assert {test["build_id"] for test in data["tests"]} == builds
    assert {build["checkout_id"] for build in data["builds"]} <= checkouts


def test_one_source_with_and_without_a_patch_is_two_checkouts() -> None:
    data = submission(
        Batch([run for run in runs.recorded() if run.kernel.startswith("debian:6.12") and run.provenance])
    )
    hashes = [checkout["patchset_hash"] for checkout in data["checkouts"]]
    assert "" in hashes and len(set(hashes)) == len(hashes) > 2
    assert all("6.12.95-1~bpo12+1" in checkout["comment"] for checkout in data["checkouts"])


def test_a_git_commit_is_named() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    result = dataclasses.replace(runs.confirmed(), provenance={"commit": commit, "tree": "f" * 40})
    (checkout,) = submission(Batch([result]))["checkouts"]
    assert checkout["git_commit_hash"] == commit


def test_a_known_violation_is_an_incident_of_an_issue() -> None:
    data = submission(Batch([runs.known()]))
    (issue,), (incident,), (test,) = data["issues"], data["incidents"], data["tests"]
    assert "fixed by abcdef123456" in issue["comment"] and issue["culprit"]["code"]
    assert incident["issue_id"] == issue["id"] and incident["test_id"] == test["id"] and incident["present"]
    assert "issues" not in submission(Batch([runs.violated()]))


def test_a_stale_declaration_is_an_absent_issue() -> None:
    (incident,) = submission(Batch([runs.stale()]))["incidents"]
    assert not incident["present"]


def test_what_was_not_run_is_missing_from_the_build_of_the_others() -> None:
    data = submission(Batch([runs.confirmed()], [runs.not_run()]))
    assert [test["status"] for test in data["tests"]] == ["PASS", "MISS"]
    assert len(data["builds"]) == 1
    alone = submission(Batch([], [runs.not_run()]))
    assert [test["status"] for test in alone["tests"]] == ["MISS"] and len(alone["builds"]) == 1


def test_ids_are_the_same_again_and_of_their_origin() -> None:
    results = runs.recorded()
    assert kcidb(Batch(results)) == kcidb(Batch(list(results)))
    data = submission(Batch(results, origin="my_lab"))
    objects = [item for kind, items in data.items() if kind != "version" for item in items]
    assert all(item["id"].startswith("my_lab:") and item["origin"] == "my_lab" for item in objects)


def test_runs_of_two_hosts_in_folders_of_one_name_are_two(tmp_path: Path) -> None:
    results = []
    for host, make in (("a", runs.confirmed), ("b", runs.violated)):
        folder = tmp_path / host / "20261123T010000-t-debian-6.12-tcg-svm"
        folder.mkdir(parents=True)
        (folder / "steps.jsonl").write_text(f"what {host} wrote")
        results.append(dataclasses.replace(make(), folder=folder))
    assert [test["status"] for test in submission(Batch(results))["tests"]] == ["PASS", "FAIL"]


@pytest.mark.parametrize("name", ["", "My Lab", "a-b", "a:b"])
def test_an_origin_is_a_word(name: str) -> None:
    with pytest.raises(UsageError, match="is no origin"):
        parse_origin(name)


@pytest.mark.parametrize("make", [runs.violated, runs.faulty])
def test_hostile_text_is_valid(make: Callable[[str], RunResult]) -> None:
    text = json.dumps(submission(Batch([make(runs.HOSTILE)])))
    assert "\\\\x1b[31mred\\\\x00" in text
