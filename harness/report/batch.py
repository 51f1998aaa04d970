"""What a report is about: the runs of one command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.result import NotRun, RunResult

DEFAULT_ORIGIN = "virt_ordering_harness"


@dataclass(frozen=True)
class Batch:
    """Runs in their order, and those that the batch ended before. `origin` names the CI system in KCIDB."""

    results: Sequence[RunResult]
    not_run: Sequence[NotRun] = ()
    origin: str = DEFAULT_ORIGIN
