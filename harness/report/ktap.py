"""KTAP version 1, the kernel's own (Documentation/dev-tools/ktap.rst): a subtest per run, in it one per claim."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.report.batch import Batch
from harness.report.cases import Case, Status, Suite, suites
from harness.visible import visible

_RESULTS = {
    Status.PASS: ("ok", ""),
    Status.FAIL: ("not ok", ""),
    Status.KNOWN: ("ok", "XFAIL "),  # so does ksft_test_result_xfail() in kselftest.h
    Status.SKIP: ("ok", "SKIP "),
    Status.ERROR: ("not ok", "ERROR "),
}

# Where kunit_parser.py takes the kernel's log to be over. It looks for them in diagnostic lines too.
_END_OF_LOG = re.compile(r"(List of all partitions|Kernel panic - not syncing: VFS|reboot: System halted)")


def ktap(batch: Batch) -> str:
    """The document."""
    lines = ["KTAP version 1", f"1..{len(batch.results) + len(batch.not_run)}"]
    for number, suite in enumerate(suites(batch), start=1):
        lines += _suite(number, suite)
    return "\n".join(lines) + "\n"


def _suite(number: int, suite: Suite) -> Iterator[str]:
    name = _name(suite.name)
    yield "  KTAP version 1"
    yield f"  # Subtest: {name}"
    yield f"  1..{len(suite.cases)}"
    for index, case in enumerate(suite.cases, start=1):
        yield from (f"  {line}" for line in _case(index, case))
    if suite.folder:
        told = ", ".join(filter(None, (f"{suite.seconds:.1f} s", suite.beneath, suite.folder)))
        yield from _diagnostic(f"{suite.title}: {told}")
    yield _result(number, name, suite.status, "")


def _case(number: int, case: Case) -> Iterator[str]:
    name = _name(case.name)
    if case.status is not Status.PASS:
        for line in case.detail:
            yield from _diagnostic(line)
    yield _result(number, name, case.status, case.message)


def _result(number: int, name: str, status: Status, reason: str) -> str:
    result, directive = _RESULTS[status]
    # A second hash sign would be the one that parsers read: "# SKIP" in a message is not ours.
    comment = (directive + _one_line(reason)).strip()
    return f"{result} {number} {name}" + (f" # {comment}" if comment else "")


def _diagnostic(text: str) -> Iterator[str]:
    """Indented: "# Subtest: " at the beginning of a line would be a header."""
    for line in visible(text).splitlines():
        if line.strip():
            yield f"#   {_END_OF_LOG.sub(_broken, line.rstrip())}"


def _broken(match: re.Match[str]) -> str:
    return match[0].replace(" ", "_")


def _name(text: str) -> str:
    """Without what a description cannot have; `#2` names a permutation."""
    return visible(text.replace("#", "."), "\n\t")


def _one_line(text: str) -> str:
    return _END_OF_LOG.sub(_broken, " ".join(visible(text, "#").split()))
