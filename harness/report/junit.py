"""JUnit XML, as Jenkins, GitLab and GitHub's reporters read it: a testsuite per run, a testcase per claim."""

from __future__ import annotations

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite
from junitparser.junitparser import FinalResult

from harness.report.batch import Batch
from harness.report.cases import Case, Status, Suite, suites
from harness.visible import visible

_KINDS: dict[Status, type[FinalResult]] = {
    Status.FAIL: Failure,
    Status.ERROR: Error,
    Status.SKIP: Skipped,
    Status.KNOWN: Skipped,  # as pytest does with an expected failure: neither red nor green
}


def junit(batch: Batch) -> str:
    """The document. What XML 1.0 cannot say, such as an escape of a kernel message, is written out: \\x1b."""
    document = JUnitXml("virt-ordering-harness")
    runs = suites(batch)
    for suite in runs:
        document.append(_suite(suite))
    document.update_statistics()
    for element, suite in zip(document, runs, strict=True):
        element.time = round(suite.seconds, 3)  # the claims of a run share its time
    document.time = round(sum(result.seconds for result in batch.results), 3)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{document.tostring().decode()}\n'


def _suite(suite: Suite) -> TestSuite:
    element = TestSuite(visible(suite.name))
    properties = {"title": suite.title, "release": suite.release, "folder": suite.folder, "host": suite.beneath}
    for name, value in properties.items():
        if value:
            element.add_property(name, visible(value))
    for case in suite.cases:
        element.append(_case(suite, case))
    if suite.started:
        element.timestamp = suite.started.strftime("%Y-%m-%dT%H:%M:%S")  # UTC: the schema's type has no offset
    return element


def _case(suite: Suite, case: Case) -> TestCase:
    # Viewers take what is before the last dot for a package: 6.12 is none.
    place = f"{suite.scenario}.{suite.name.removeprefix(suite.scenario + ' on ').replace('.', '_')}"
    element = TestCase(visible(case.name), classname=visible(place))
    detail = visible("\n".join(case.detail))
    if case.status is Status.PASS:
        return element
    kind = _KINDS[case.status](visible(case.message), case.status.value)
    kind.text = detail
    element.result = [kind]
    if case.status in (Status.FAIL, Status.ERROR) and suite.folder:
        element.system_out = visible(f"judge it again: harness judge -v {suite.folder}")
    return element
