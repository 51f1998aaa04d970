"""JUnit XML, read back by the standard library's parser and by junitparser."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from junitparser import JUnitXml

from harness.judge.verdict import Verdict
from harness.report.batch import Batch
from harness.report.junit import junit
from harness.report.result import RunResult
from tests.report import runs


def case_of(result: RunResult) -> ET.Element:
    found = ET.fromstring(junit(Batch([result]))).find("testsuite/testcase")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("make", "element", "kind"),
    [
        (runs.confirmed, None, None),
        (runs.violated, "failure", "violated"),
        (runs.known, "skipped", "violated, as declared"),
        (runs.stale, "failure", "violated"),
        (runs.not_exercised, "skipped", "not exercised"),
        (runs.faulty, "error", "harness fault"),
    ],
)
def test_a_verdict_is_an_element(make: Callable[[], RunResult], element: str | None, kind: str | None) -> None:
    case = case_of(make())
    found = [child for child in case if child.tag in ("failure", "skipped", "error")]
    assert [child.tag for child in found] == ([element] if element else [])
    assert [child.get("type") for child in found] == ([kind] if kind else [])


def test_every_violated_claim_of_the_recorded_runs_is_a_failure_or_declared() -> None:
    results = runs.recorded()
    cases = list(ET.fromstring(junit(Batch(results))).iter("testcase"))
    claims = [claim for result in results for claim in result.judgement.claims]
    assert len(cases) == len(claims)
    for case, claim in zip(cases, claims, strict=True):
        bare = case.find("failure") is None and case.find("skipped") is None and case.find("error") is None
        assert bare == (claim.verdict is Verdict.CONFIRMED), claim.use.claim.id
        if claim.verdict is Verdict.VIOLATED and not claim.as_declared:
            assert case.find("failure") is not None


def test_the_evidence_is_in_the_failure() -> None:
    text = junit(Batch([run for run in runs.recorded() if "cpuhp-nocalls" in str(run.folder)]))
    assert "vendor_compat happened 1 times on CPU 0, not 2" in text
    assert "→ vendor_compat" in text  # the events, as lanes


def test_counts_times_and_folders_are_there() -> None:
    results = [runs.confirmed(), runs.violated(), runs.not_exercised(), runs.faulty()]
    root = ET.fromstring(junit(Batch(results, [runs.not_run()])))
    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["5", "1", "2", "1"]
    assert float(root.get("time", "0")) == 6.0
    first = root.find("testsuite")
    assert first is not None and first.get("time") == "1.5"
    assert root.find("testsuite/properties/property[@name='folder']") is not None


def test_the_package_of_a_case_is_its_scenario() -> None:
    names = {case.get("classname", "") for case in ET.fromstring(junit(Batch(runs.recorded()))).iter("testcase")}
    assert "demo.debian:6_1 tcg-svm" in names
    assert all(name.count(".") == 1 for name in names)


@pytest.mark.parametrize("make", [runs.violated, runs.faulty])
def test_hostile_text_stays_text(make: Callable[[str], RunResult]) -> None:
    text = junit(Batch([make(runs.HOSTILE)]))
    root = ET.fromstring(text)
    assert len(list(root.iter("testcase"))) == 1
    assert "\\x1b[31mred\\x00" in text
    assert [len(list(suite)) for suite in JUnitXml.fromstring(text.encode())] == [1]
