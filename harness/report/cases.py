"""Runs as suites of test cases, which is how CI systems see the world: a suite per run, a case per claim."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from harness.judge.verdict import ClaimVerdict, Finding, Verdict
from harness.report.batch import Batch
from harness.report.result import NotRun, RunResult
from harness.report.terminal import plain_evidence

_LONGEST = 80  # lines of detail of a case; the run's folder has all


class Status(enum.Enum):
    """What a case comes to. A batch exits 0 exactly when all of its cases are PASS or KNOWN."""

    PASS = "confirmed"
    FAIL = "violated"
    KNOWN = "violated, as declared"
    SKIP = "not exercised"
    ERROR = "harness fault"


@dataclass(frozen=True)
class Case:
    """A claim in a run. `message` is one sentence, `detail` the lines that prove it."""

    name: str
    status: Status
    message: str
    detail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """A run, or one that did not come about."""

    scenario: str
    column: str  # kernel and engine
    title: str
    cases: tuple[Case, ...]
    seconds: float = 0.0
    started: datetime | None = None
    folder: str = ""
    release: str = ""
    beneath: str = ""  # what the guest's CPUs were in truth
    repeat: int = 1  # which run of its scenario on its kernel and engine

    @property
    def name(self) -> str:
        """One name per run of a batch."""
        return f"{self.scenario} on {self.column}" + (f" ({self.repeat})" if self.repeat > 1 else "")

    @property
    def status(self) -> Status:
        """The worst of its cases; what was skipped or is known says nothing about the others."""
        return max((case.status for case in self.cases), key=_SEVERITY.index, default=Status.ERROR)


_SEVERITY = (Status.SKIP, Status.KNOWN, Status.PASS, Status.FAIL, Status.ERROR)


def suites(batch: Batch) -> list[Suite]:
    """The runs of a batch in their order, then what it did not come to."""
    seen: Counter[tuple[str, str]] = Counter()
    numbered = []
    for suite in [*map(_of_run, batch.results), *map(_of_no_run, batch.not_run)]:
        key = (suite.scenario, suite.column)
        seen[key] += 1
        numbered.append(replace(suite, repeat=seen[key]))
    return numbered


def status_of(claim: ClaimVerdict) -> Status:
    """A claim's status; the only place where `known` becomes something that CI takes for good."""
    if claim.verdict is Verdict.HARNESS_FAULT:
        return Status.ERROR
    if claim.verdict is Verdict.NOT_EXERCISED:
        return Status.SKIP
    if claim.verdict is Verdict.VIOLATED:
        return Status.KNOWN if claim.as_declared else Status.FAIL
    return Status.PASS if claim.as_declared else Status.FAIL


def _of_run(result: RunResult) -> Suite:
    return Suite(
        result.scenario,
        result.column,
        result.title,
        tuple(_case(result, claim) for claim in result.judgement.claims),
        result.seconds,
        started_at(result),
        str(result.folder),
        result.release,
        result.beneath,
    )


def started_at(result: RunResult) -> datetime | None:
    """When a run began, in UTC; None for a run of a harness that did not write it down."""
    return datetime.strptime(result.started, "%Y-%m-%dT%H:%M:%S%z").astimezone(UTC) if result.started else None


def _of_no_run(missing: NotRun) -> Suite:
    message = f"not run: {missing.why}"
    cases = tuple(Case(use.claim.id, Status.ERROR, message) for use in missing.claims)
    return Suite(missing.scenario, missing.column, missing.title, cases)


def _case(result: RunResult, claim: ClaimVerdict) -> Case:
    status = status_of(claim)
    lines = plain_evidence(result, claim)
    if len(lines) > _LONGEST:
        lines = [*lines[:_LONGEST], f"… {len(lines) - _LONGEST} more lines: harness judge -v {result.folder}"]
    return Case(claim.use.claim.id, status, message_of(result, claim), tuple(lines))


def message_of(result: RunResult, claim: ClaimVerdict) -> str:
    """One sentence on why a claim has its verdict."""
    if claim.verdict is Verdict.HARNESS_FAULT:
        return _first_line(result.fault) or "harness fault"
    if claim.verdict is Verdict.CONFIRMED:
        return "" if claim.as_declared else f"confirmed, but declared {claim.known} on {result.kernel}"
    kind = Finding.FAILED if claim.verdict is Verdict.VIOLATED else Finding.UNSEEN
    texts = [found.text for found in claim.findings if found.finding is kind]
    story = [f"since {claim.use.since}"] if claim.use.since else []
    story += [f"fixed by {claim.use.fixed_by}"] if claim.use.fixed_by else []
    known = ["; ".join(["known", *story])] if status_of(claim) is Status.KNOWN else []
    return "; ".join([*known, _first_line(texts[0] if texts else result.fault) or claim.verdict.value])


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip()
