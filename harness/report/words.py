"""A run's verdict in words: what a report says first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.judge.record import RunRecord
from harness.judge.verdict import ClaimVerdict, Finding, Found, Judgement, Verdict
from harness.probes.event import Event
from harness.report.timeline import Timeline
from harness.scenario.expectations import Order

# Never by colour alone: in a report each verdict has its sign.
SIGNS = {
    Verdict.CONFIRMED: "✓",
    Verdict.VIOLATED: "✗",
    Verdict.NOT_EXERCISED: "?",
    Verdict.HARNESS_FAULT: "!",
}
FINDING_SIGNS = {Finding.HELD: "✓", Finding.FAILED: "✗", Finding.UNSEEN: "?"}

# A fault of the harness hides what the kernel did; a violation is told before what was merely not seen.
_WORST_FIRST = (Verdict.HARNESS_FAULT, Verdict.VIOLATED, Verdict.NOT_EXERCISED, Verdict.CONFIRMED)


def worst(claims: Sequence[ClaimVerdict]) -> Verdict:
    """The verdict that stands for all; a run without claims has exercised none."""
    found = {claim.verdict for claim in claims}
    return next((verdict for verdict in _WORST_FIRST if verdict in found), Verdict.NOT_EXERCISED)


def rank(verdict: Verdict) -> int:
    """Where a verdict stands among others: the worst first."""
    return _WORST_FIRST.index(verdict)


def headline(judgement: Judgement) -> str:
    """The verdict on all claims: `Violated, as declared`, `1 of 3 claims violated`."""
    claims = judgement.claims
    verdict = worst(claims)
    counts = Counter(claim.verdict for claim in claims)
    if verdict is Verdict.HARNESS_FAULT:
        return "No verdict: the harness failed"
    if counts[verdict] == len(claims):
        text = {1: verdict.value.capitalize(), 2: f"Both claims {verdict.value}"}.get(
            len(claims), f"All {len(claims)} claims {verdict.value}"
        )
    else:
        text = f"{counts[verdict]} of {len(claims)} claims {verdict.value}"
    return f"{text}, {as_declared}" if (as_declared := _as_declared(claims)) else text


def tally(claims: Sequence[ClaimVerdict]) -> str:
    """The verdicts of many runs, counted: `2 violated, 5 confirmed`."""
    counts = Counter(claim.verdict for claim in claims)
    text = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in _WORST_FIRST if counts[verdict])
    return f"{text}: {as_declared}" if (as_declared := _as_declared(claims)) else text or "No verdicts"


def _as_declared(claims: Sequence[ClaimVerdict]) -> str:
    """How verdicts stand to what scenarios declare: "" where that goes without saying."""
    if any(claim.verdict is Verdict.CONFIRMED and not claim.as_declared for claim in claims):
        return "not as declared"  # all may be green, and the exit status is 1
    unusual = any(claim.verdict is not Verdict.CONFIRMED for claim in claims)
    return "as declared" if unusual and all(claim.as_declared for claim in claims) else ""


def explanation(record: RunRecord, judgement: Judgement) -> list[str]:
    """What the headline rests on, a sentence each: the scenario's own words, a fault, what failed."""
    sentences = []
    for claim in judgement.claims:
        if claim.as_declared and (meaning := claim.use.means.get(str(record.kernel["label"]))):
            sentences.append(f"{claim.use.claim.id}: {meaning}")
    if record.fault is not None:
        blame = "The kernel is not to blame. " if worst(judgement.claims) is Verdict.HARNESS_FAULT else ""
        sentences.append(blame + "The run ended early: " + record.fault.text.partition("\n")[0])
    for claim in judgement.claims:
        # What concerns the run as a whole stands at every claim; here once is enough.
        sentences += [found.text for found in claim.findings if found.finding is Finding.FAILED]
    if worst(judgement.claims) is Verdict.NOT_EXERCISED:
        sentences += [
            found.text for claim in judgement.claims for found in claim.findings if found.finding is Finding.UNSEEN
        ]
    return list(dict.fromkeys(sentences))


def declared(claim: ClaimVerdict) -> str:
    """What the scenario had declared, for behind a verdict: `known`, `declared: violated`, or nothing."""
    if claim.known is None:
        return ""
    if claim.as_declared:
        return "known"
    # A crash is news, whatever is declared: the exit status is 1.
    more = ", and more went wrong" if claim.verdict.value == claim.known else ""
    return f"declared: {claim.known}{more}"


def decides(found: Found) -> bool:
    """Whether events themselves are what is wrong."""
    return found.finding is Finding.FAILED and bool(found.events)


def course(claim: ClaimVerdict, timeline: Timeline) -> list[Event]:
    """What led to a violation that is one of state: the events that its expectations speak of, and who was held."""
    if claim.verdict is not Verdict.VIOLATED or any(decides(found) for found in claim.findings):
        return []
    wanted = {id(event) for found in claim.findings if isinstance(found.expectation, Order) for event in found.events}
    holds = ("held", "released", "lost")
    return [event for event in timeline.events if id(event) in wanted or event.phase in holds]
