"""The formats that runs can be written in for other programs, by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from harness.report.batch import Batch
from harness.report.junit import junit
from harness.report.kcidb import kcidb
from harness.report.ktap import ktap


@dataclass(frozen=True)
class Format:
    """One format: `render` gives the whole text of a file."""

    name: str
    about: str
    suffix: str
    render: Callable[[Batch], str]


def _json(batch: Batch) -> str:
    return json.dumps([result.to_json() for result in batch.results], indent=2, ensure_ascii=False) + "\n"


def _kcidb(batch: Batch) -> str:
    return json.dumps(kcidb(batch), indent=2) + "\n"


FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        Format("json", "result documents; `harness schema result` prints their schema", ".json", _json),
        Format("junit", "JUnit XML: a testsuite per run, a testcase per claim", ".xml", junit),
        Format("ktap", "KTAP version 1: a subtest per run, in it one per claim", ".ktap", ktap),
        Format("kcidb", "a KCIDB submission: checkouts, builds, tests, known issues", ".kcidb.json", _kcidb),
    )
}
