"""From a run's record to a verdict per claim."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from harness.errors import Exit
from harness.guest.outcome import OK
from harness.judge.findings import find, not_emulated, run_findings, unexpected_splats
from harness.judge.record import RunRecord
from harness.judge.verdict import ClaimVerdict, Finding, Found, Judgement, Verdict
from harness.scenario.model import ClaimUse
from harness.scenario.steps import Release


def judge(record: RunRecord) -> Judgement:
    """Judges every claim of the record's scenario."""
    record = _up_to_the_early_end(record)
    expectations = record.scenario.expectations_on(record.version, record.vendor)
    about_run = run_findings(record, expectations)
    blameless = bool(not_emulated(record, expectations))
    accused = not blameless and any(splat.sure for splat in unexpected_splats(record, expectations))
    only = record.scenario.claims[0].claim.id if len(record.scenario.claims) == 1 else None
    verdicts = []
    for use in record.scenario.claims:
        own = [
            find(expectation, record) for expectation in expectations if (expectation.claim or only) == use.claim.id
        ]
        verdicts.append(_claim_verdict(use, own, about_run, record, accused, blameless))
    return Judgement(tuple(verdicts))


def _up_to_the_early_end(record: RunRecord) -> RunRecord:
    """A run that ended early without what happened when everybody was let go, which is no part of the scenario."""
    if record.fault is None:
        return record
    by_steps = {
        step.point
        for step in record.scenario.steps
        if isinstance(step, Release) and step.id in record.outcomes and record.outcomes[step.id].result == OK
    }
    let_go = min(
        (
            event.order
            for event in record.events
            if event.phase == "released" and event.name not in by_steps and event.order is not None
        ),
        default=None,
    )
    if let_go is None:
        return record
    events = (event for event in record.events if event.order is None or event.order < let_go)
    return dataclasses.replace(record, events=tuple(events))


def _claim_verdict(
    use: ClaimUse,
    own: Sequence[Found],
    about_run: Sequence[Found],
    record: RunRecord,
    accused: bool,
    blameless: bool,
) -> ClaimVerdict:
    findings = [*own, *about_run]
    if not own:
        text = f"no expectation speaks of kernel {record.version} with {record.vendor.upper()}"
        findings.append(Found(Finding.UNSEEN, text))
    # What is known of a kernel is not known of it with a patch.
    known = use.known.get(str(record.kernel["label"]))
    return ClaimVerdict(use, _verdict(findings, record, accused, blameless), tuple(findings), known)


def _verdict(findings: Sequence[Found], record: RunRecord, accused: bool, blameless: bool) -> Verdict:
    # A splat is the kernel's own word: it outranks a lost connection or a deadline, which often follow from it.
    harness_failed = record.fault is not None and record.fault.exit not in (Exit.VIOLATED, Exit.NOT_EXERCISED)
    if harness_failed and not accused:
        return Verdict.HARNESS_FAULT
    kinds = {found.finding for found in findings}
    # What failed may have failed for what the emulated platform lacks.
    if Finding.FAILED in kinds and not blameless:
        return Verdict.VIOLATED
    if kinds - {Finding.HELD} or record.fault is not None:
        return Verdict.NOT_EXERCISED
    return Verdict.CONFIRMED
