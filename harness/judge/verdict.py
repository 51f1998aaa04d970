"""The words of a judgement."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from harness.errors import Exit, worst_exit
from harness.probes.event import Event
from harness.scenario.expectations import Expectation
from harness.scenario.model import ClaimUse, VerdictName


class Verdict(enum.Enum):
    """What a run says about a claim."""

    CONFIRMED = "confirmed"
    VIOLATED = "violated"
    NOT_EXERCISED = "not exercised"
    HARNESS_FAULT = "harness fault"

    @property
    def exit(self) -> Exit:
        return _EXITS[self]


_EXITS = {
    Verdict.CONFIRMED: Exit.CONFIRMED,
    Verdict.VIOLATED: Exit.VIOLATED,
    Verdict.NOT_EXERCISED: Exit.NOT_EXERCISED,
    Verdict.HARNESS_FAULT: Exit.HARNESS_FAULT,
}


class Finding(enum.Enum):
    """What a run says about one expectation."""

    HELD = "held"
    FAILED = "failed"
    UNSEEN = "unseen"  # the events or samples that it talks about are not there, or not comparable


@dataclass(frozen=True)
class Found:
    """A finding with its evidence.

    `text` is one sentence. `events` are the fewest events that prove it: for a failed order the two
    that contradict it. `evidence` is what proves it otherwise: the stacks of tasks. `expectation` is
    None for what concerns the run as a whole (a splat, an early end).
    """

    finding: Finding
    text: str
    events: tuple[Event, ...] = ()
    expectation: Expectation | None = None
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim's verdict in one run, with every finding that it rests on."""

    use: ClaimUse
    verdict: Verdict
    findings: tuple[Found, ...]
    known: VerdictName | None = None  # the verdict that the scenario declares for this kernel

    @property
    def as_declared(self) -> bool:
        """Whether this verdict is the declared one; a claim with nothing declared must be confirmed.

        What is declared is that the claim's own expectations fail: a kernel that oopsed or hung is news everywhere.
        """
        of_run = any(found.finding is Finding.FAILED and found.expectation is None for found in self.findings)
        return self.verdict.value == (self.known or Verdict.CONFIRMED.value) and not of_run


@dataclass(frozen=True)
class Judgement:
    """All verdicts of one run."""

    claims: tuple[ClaimVerdict, ...] = field(default_factory=tuple)

    @property
    def exit(self) -> Exit:
        """0 exactly when every verdict is the declared one, else the worst of those that are not."""
        exits = [claim.verdict.exit or Exit.VIOLATED for claim in self.claims if not claim.as_declared]
        return worst_exit(exits) if exits or not self.claims else Exit.CONFIRMED
