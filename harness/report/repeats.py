"""Runs of the same: whether they agree, claim by claim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from harness.errors import Exit, worst_exit
from harness.judge.verdict import Verdict
from harness.report.result import RunResult


@dataclass(frozen=True)
class Repeats:
    """All runs of one scenario on one kernel and engine."""

    runs: tuple[RunResult, ...]

    @property
    def by_verdict(self) -> dict[str, dict[Verdict, list[RunResult]]]:
        """For each claim on which the runs disagree, the runs of each verdict."""
        found: dict[str, dict[Verdict, list[RunResult]]] = {}
        for run in self.runs:
            for claim in run.judgement.claims:
                found.setdefault(claim.use.claim.id, {}).setdefault(claim.verdict, []).append(run)
        return {claim: verdicts for claim, verdicts in found.items() if len(verdicts) > 1}

    @property
    def exit(self) -> Exit:
        """A claim on which the runs disagree proves nothing; one that all of them violate is violated, whatever
        became of others. A fault of the harness in one run is that of all."""
        worst = worst_exit([run.exit for run in self.runs])
        if worst is Exit.HARNESS_FAULT or not self.by_verdict:
            return worst
        agreed = [
            claim.verdict.exit or Exit.VIOLATED
            for run in self.runs
            for claim in run.judgement.claims
            if claim.use.claim.id not in self.by_verdict and not claim.as_declared
        ]
        return worst_exit([Exit.NOT_EXERCISED, *agreed])

    @property
    def samples(self) -> list[RunResult]:
        """One run of each kind, the worst last."""
        kinds = {tuple(claim.verdict for claim in run.judgement.claims): run for run in reversed(self.runs)}
        order = [worst_exit([Exit.CONFIRMED, run.exit]) for run in kinds.values()]
        ranked = sorted(zip(order, kinds.values(), strict=True), key=lambda pair: _RANK.index(pair[0]))
        return [run for _, run in ranked]


_RANK = (Exit.CONFIRMED, Exit.NOT_EXERCISED, Exit.VIOLATED, Exit.HARNESS_FAULT, Exit.USAGE)


def repeats(results: Iterable[RunResult]) -> list[Repeats]:
    """The runs of each scenario, kernel and engine, in the order of their first ones."""
    groups: dict[tuple[str, str, str], list[RunResult]] = {}
    for result in results:
        groups.setdefault((result.scenario, result.kernel, result.engine), []).append(result)
    return [Repeats(tuple(runs)) for runs in groups.values()]


def print_disagreements(console: Console, groups: Sequence[Repeats]) -> None:
    """What is nondeterministic, with a folder of each kind to compare."""
    for group in groups:
        first = group.runs[0]
        for claim, verdicts in group.by_verdict.items():
            where = f"{claim} of {first.scenario} on {first.column}"
            console.print(f"[bold yellow]nondeterministic[/]: {escape(where)}")
            for verdict, runs in verdicts.items():
                text = f"  {verdict.value} in {len(runs)} of {len(group.runs)} runs, such as {runs[0].folder}"
                console.print(escape(text), soft_wrap=True)
