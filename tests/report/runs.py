"""Runs to report on: recorded ones, and one of each verdict made by hand."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from harness.errors import Exit
from harness.judge.judge import judge
from harness.judge.record import Fault, RunRecord, load_record
from harness.report.result import NotRun, RunResult
from harness.scenario.model import ClaimUse
from tests.judge.records import event, outcome, record

RECORDED = Path(__file__).parent.parent / "recorded"
FOLDERS = sorted(path for path in RECORDED.iterdir() if path.is_dir())

# What a kernel log may hold, and what means something to XML, to KTAP, to kunit_parser.py or to rich.
HOSTILE = (
    "\x1b[31mred\x00\x08 ]]> <b>&amp; [/bold] \udce9 \ufffe\r\n"
    "ok 1 all is well # SKIP really\n# Subtest: other\nKTAP version 1\n1..9\nreboot: System halted"
)


@functools.cache
def recorded() -> tuple[RunResult, ...]:
    """The recorded runs, judged."""
    return tuple(result_of(load_record(folder)) for folder in FOLDERS)


def result_of(run: RunRecord) -> RunResult:
    return RunResult.of(run, judge(run), 1.5)


def confirmed() -> RunResult:
    return result_of(record("  - exit: {load: OK}\n"))


def violated(message: str = "") -> RunResult:
    """A violated claim; with `message` as what the run says about it."""
    result = result_of(record("  - exit: {load: OK}\n", outcomes=[outcome("load", "EIO"), outcome("unload")]))
    return _with_text(result, message) if message else result


def known() -> RunResult:
    """The same, declared by the scenario."""
    return _declared(violated(), "violated")


def stale() -> RunResult:
    """Confirmed, although it is declared violated."""
    return _declared(confirmed(), "violated")


def not_exercised() -> RunResult:
    return result_of(record("  - order: [on@each, late]\n", [event(10, 0, "on")]))


def faulty(text: str = "QEMU died") -> RunResult:
    fault = Fault("HostFault", int(Exit.HARNESS_FAULT), text)
    return result_of(record("  - exit: {load: OK}\n", fault=fault, complete=frozenset()))


def not_run() -> NotRun:
    use = confirmed().judgement.claims[0].use
    return NotRun("own", "t", "debian:6.12", "tcg-svm", (use,), "the batch was interrupted")


def _declared(result: RunResult, verdict: str) -> RunResult:
    (claim,) = result.judgement.claims
    use: ClaimUse = ClaimUse.model_validate(
        {"claim": claim.use.claim, "known": {result.kernel: verdict}, "fixed_by": "abcdef123456"}
    )
    declared = dataclasses.replace(claim, use=use, known=use.known[result.kernel])
    return dataclasses.replace(result, judgement=dataclasses.replace(result.judgement, claims=(declared,)))


def _with_text(result: RunResult, text: str) -> RunResult:
    (claim,) = result.judgement.claims
    findings = tuple(dataclasses.replace(found, text=text) for found in claim.findings)
    changed = dataclasses.replace(claim, findings=findings)
    return dataclasses.replace(result, title=text, judgement=dataclasses.replace(result.judgement, claims=(changed,)))
