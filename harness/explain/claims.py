"""A claim: what it says, what decides it, what breaks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from harness.explain.explanation import Explanation, explanation
from harness.explain.project import patches, place, scenarios
from harness.paths import PROJECT
from harness.scenario.load import as_written, reference_claims
from harness.scenario.model import Claim, ClaimUse, Scenario

_STORY = PROJECT / "docs" / "claims.md"


def claims() -> Mapping[str, Claim]:
    """The reference claims, and those that scenarios bring themselves."""
    own = {use.claim.id: use.claim for scenario in scenarios() for use in scenario.claims}
    return {**own, **reference_claims()}


def explain_claim(name: str) -> Explanation:
    """Of a claim of `claims`."""
    claim = claims()[name]
    uses = [(scenario, use) for scenario in scenarios() for use in scenario.claims if use.claim.id == name]
    number = [f"{claim.number} of the reference discussion"] if claim.number else []
    return explanation(
        "claim",
        name,
        claim.text,
        {
            "source": [claim.source],
            "number": number,
            "decided by": [line for scenario, _ in uses for line in _deciding(scenario, name)],
            "known": [line for scenario, use in uses for line in _known(scenario, use)],
            "mutants that should violate it": _mutants(name),
            "read more": _story(claim),
        },
    )


def _deciding(scenario: Scenario, claim: str) -> Iterator[str]:
    yield f"{place(scenario)}: {scenario.title}"
    only = len(scenario.claims) == 1
    for expectation in scenario.expect:
        if expectation.claim == claim or (only and not expectation.claim):
            yield f"    {as_written(expectation.model_copy(update={'claim': ''}))}"


def _known(scenario: Scenario, use: ClaimUse) -> Iterator[str]:
    story = [f"{word} {commit}" for word, commit in (("since", use.since), ("fixed by", use.fixed_by)) if commit]
    for kernel, verdict in use.known.items():
        means = use.means.get(kernel)
        yield "; ".join([f"{place(scenario)} on {kernel}: {verdict}", *story, *([means] if means else [])])


def _mutants(claim: str) -> Iterable[str]:
    found: dict[str, list[str]] = {}
    for patch in patches():
        if claim in patch.mutant.claims:
            found.setdefault(patch.mutant.id, []).append(patch.version)
    return (f"{name} ({', '.join(versions)})" for name, versions in sorted(found.items()))


def _story(claim: Claim) -> Iterator[str]:
    if claim.number and _STORY.exists() and f"\n### {claim.number}. {claim.id}\n" in _STORY.read_text():
        yield f"docs/claims.md#{claim.number}-{claim.id}"
