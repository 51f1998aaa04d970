"""Mutant × claim: each mutant is built, the scenarios that apply are run, and the claims say what they noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import progress
from harness.errors import Exit
from harness.judge.verdict import ClaimVerdict, Finding, Verdict
from harness.kernels import with_patches
from harness.machine.auto import Tools
from harness.machine.engine import AUTO, Engine
from harness.mutants.mutant import Mutant
from harness.report.result import RunResult
from harness.run import Job, run_job
from harness.scenario.model import Scenario

MATRIX_FORMAT = 1


@dataclass(frozen=True)
class MutantResult:
    """What became of one mutant (None: the unpatched kernel): a verdict per claim, the worst over its scenarios.

    `noticed` are the claims of which an expectation failed; the others that are violated share a run with a splat.
    `undeclared` are those whose verdict is not the one that the scenario declares for this kernel.
    """

    mutant: Mutant | None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    noticed: frozenset[str] = frozenset()
    undeclared: frozenset[str] = frozenset()
    runs: tuple[RunResult, ...] = ()

    @property
    def killed_by(self) -> list[str]:
        """The claims that it violates."""
        return [claim for claim, verdict in self.verdicts.items() if verdict is Verdict.VIOLATED]

    @property
    def faulty(self) -> bool:
        """Whether the harness failed on it: then nothing is known."""
        return Verdict.HARNESS_FAULT in self.verdicts.values()


@dataclass(frozen=True)
class Matrix:
    """The rows; the first is the unpatched kernel, which must be confirmed, or violated where it is known to be."""

    kernel: str
    engine: str  # names, where scenarios need different ones
    rows: tuple[MutantResult, ...]

    @property
    def survivors(self) -> list[MutantResult]:
        return [row for row in self.rows if row.mutant is not None and not row.killed_by]

    @property
    def exit(self) -> Exit:
        """0 when the unpatched kernel is as declared and no mutant survives."""
        if any(row.faulty for row in self.rows):
            return Exit.HARNESS_FAULT
        if self.survivors or any(row.undeclared for row in self.rows if row.mutant is None):
            return Exit.VIOLATED
        return Exit.CONFIRMED

    def to_json(self) -> dict[str, Any]:
        return {
            "format": MATRIX_FORMAT,
            "kernel": self.kernel,
            "engine": self.engine,
            "exit": int(self.exit),
            "mutants": [
                {
                    "mutant": row.mutant.id if row.mutant else None,
                    "claims": list(row.mutant.claims) if row.mutant else [],
                    "killed_by": row.killed_by,
                    "noticed_by": sorted(row.noticed),
                    "verdicts": {claim: verdict.value for claim, verdict in row.verdicts.items()},
                    "runs": [run.to_json() for run in row.runs],
                }
                for row in self.rows
            ],
        }


@dataclass(frozen=True)
class Trial:
    """A scenario, and the engine to run it on."""

    scenario: Scenario
    engine: Engine

    def __hash__(self) -> int:
        """Scenarios have lists in them."""
        return hash((self.scenario.name, self.engine.name))


def run_matrix(
    mutants: Sequence[Mutant],
    scenarios: Sequence[Scenario],
    kernel: str,
    tools: Tools,
    *,
    every: bool = False,
    until_killed: bool = False,
) -> Matrix:
    """Runs each mutant, and the unpatched kernel on the same scenarios and engines.

    With `every`, also scenarios without a claim of the mutant; with `until_killed`, only up to the first that kills
    it. Mutants that cannot show on the engine that was asked for are left out, with a note.
    """
    suited = [variant for scenario in scenarios if kernel in scenario.kernels for variant in scenario.variants()]
    stock: dict[Trial, RunResult] = {}
    rows: list[MutantResult] = []
    for mutant, trials in plan(mutants, suited, tools, every):
        row = MutantResult(mutant)
        with progress.task(f"mutant {mutant.id}"):
            for trial in trials:
                # First what the mutant is compared with.
                if trial not in stock:
                    stock[trial] = run_job(Job(trial.scenario, kernel, trial.engine, tools.qemu))
                options = with_patches(kernel, (mutant.path,))
                run = run_job(Job(trial.scenario, kernel, trial.engine, tools.qemu, options))
                row = summarize(mutant, (*row.runs, run), tuple(stock.values()))
                if until_killed and row.killed_by:
                    break
        rows.append(row)
    engines = {trial.engine.name: None for trial in stock}
    return Matrix(kernel, ", ".join(engines), (summarize(None, tuple(stock.values())), *rows))


def plan(
    mutants: Sequence[Mutant], scenarios: Sequence[Scenario], tools: Tools, every: bool
) -> list[tuple[Mutant, list[Trial]]]:
    """What each mutant is tried with, the scenarios with most of its claims first.

    Those that cannot show on the engine that was asked for are left out.
    """
    planned = []
    for mutant in mutants:
        if mutant.engines and tools.name not in (AUTO, *mutant.engines):
            progress.note(f"mutant {mutant.id} is left out: it shows only on {', '.join(mutant.engines)}")
            continue
        chosen = [scenario for scenario in scenarios if every or not mutant.claims or _shared(scenario, mutant)]
        chosen.sort(key=lambda scenario: -_shared(scenario, mutant))
        trials = [Trial(scenario, _engine(mutant, scenario, tools)) for scenario in chosen]
        # A scenario for SVM says nothing of a mutant that shows on VMX only.
        planned.append((mutant, [trial for trial in trials if not trial.engine.lacks(trial.scenario.machine)]))
    return planned


def _engine(mutant: Mutant, scenario: Scenario, tools: Tools) -> Engine:
    """The scenario's engine, or with `auto` one on which the mutant shows."""
    engine = tools.engine(scenario.machine)
    if not mutant.engines or engine.name in mutant.engines:
        return engine
    return Tools(mutant.engines[0], tools.qemu).engine(scenario.machine)


def _shared(scenario: Scenario, mutant: Mutant) -> int:
    """How many of the mutant's claims the scenario decides."""
    return sum(use.claim.id in mutant.claims for use in scenario.claims)


# A claim in a run: the scenario's name, the engine's, and the claim's id.
_Place = tuple[str, str, str]


def _claims(runs: Sequence[RunResult]) -> dict[_Place, ClaimVerdict]:
    return {(run.scenario, run.engine, one.use.claim.id): one for run in runs for one in run.judgement.claims}


def summarize(mutant: Mutant | None, runs: tuple[RunResult, ...], base: Sequence[RunResult] = ()) -> MutantResult:
    """What the runs say of a mutant; where the unpatched kernel's runs, `base`, do not confirm a claim, nothing."""
    claims = _claims(runs)
    if mutant is not None:
        sound = {place for place, claim in _claims(base).items() if claim.verdict is Verdict.CONFIRMED}
        claims = {place: claim for place, claim in claims.items() if place in sound}
    verdicts: dict[str, Verdict] = {}
    noticed: set[str] = set()
    undeclared: set[str] = set()
    for (_, _, name), claim in claims.items():
        if any(found.finding is Finding.FAILED and found.expectation for found in claim.findings):
            noticed.add(name)
        if not claim.as_declared:
            undeclared.add(name)
        verdicts[name] = max(verdicts.get(name, Verdict.CONFIRMED), claim.verdict, key=_WEIGHT.index)
    return MutantResult(mutant, verdicts, frozenset(noticed), frozenset(undeclared), runs)


_WEIGHT = (Verdict.CONFIRMED, Verdict.NOT_EXERCISED, Verdict.VIOLATED, Verdict.HARNESS_FAULT)
