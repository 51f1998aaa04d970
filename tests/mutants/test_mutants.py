"""Mutants and their matrix: trailers, what counts as killed, and one real kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import Exit, UsageError
from harness.judge.verdict import ClaimVerdict, Judgement, Verdict
from harness.machine.auto import Tools
from harness.mutants.matrix import Matrix, MutantResult, plan, summarize
from harness.mutants.mutant import MUTANTS, Mutant, load_mutant, project_mutants
from harness.paths import PROJECT
from harness.report.result import RunResult
from harness.scenario.load import load_scenario
from harness.scenario.model import Claim, ClaimUse

DIFF = "diff --git a/virt/kvm/kvm_main.c b/virt/kvm/kvm_main.c\n--- a/x\n+++ b/x\nClaims: not-a-trailer\n"
MUTANT = Mutant("m", Path("m.patch"))


def test_trailers_are_read_before_the_diff_only(tmp_path: Path) -> None:
    path = tmp_path / "m.patch"
    head = (
        "Subject: [MUTANT] KVM: forget it\n\nMutant: forget\nClaims: misc-register-last\nKernels: debian:6.12\n---\n"
    )
    path.write_text(head + DIFF)
    assert load_mutant(path) == Mutant("forget", path, "KVM: forget it", ("misc-register-last",), ("debian:6.12",))


def test_a_plain_patch_is_a_mutant_without_claims(tmp_path: Path) -> None:
    (tmp_path / "plain.patch").write_text(DIFF)
    assert load_mutant(tmp_path / "plain.patch").claims == ()


def test_an_unknown_claim_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "m.patch").write_text("Claims: misc-register-lst\n" + DIFF)
    with pytest.raises(UsageError, match="did you mean 'misc-register-last'"):
        load_mutant(tmp_path / "m.patch")


def test_no_mutants_for_a_kernel() -> None:
    assert len(project_mutants("debian:6.12")) >= 20
    with pytest.raises(UsageError, match=r"no mutants for debian:5\.10"):
        project_mutants("debian:5.10")


def row(mutant: Mutant | None, *verdicts: Verdict) -> MutantResult:
    named = {f"c{number}": verdict for number, verdict in enumerate(verdicts)}
    noticed = frozenset(name for name, verdict in named.items() if verdict is Verdict.VIOLATED)
    undeclared = frozenset(name for name, verdict in named.items() if verdict is not Verdict.CONFIRMED)
    return MutantResult(mutant, named, noticed, undeclared, ())


@pytest.mark.parametrize(
    ("rows", "exit_code", "survivors"),
    [
        ([row(None, Verdict.CONFIRMED), row(MUTANT, Verdict.VIOLATED)], Exit.CONFIRMED, 0),
        ([row(None, Verdict.CONFIRMED), row(MUTANT, Verdict.CONFIRMED)], Exit.VIOLATED, 1),
        # Not to have seen anything is not to have noticed.
        ([row(None, Verdict.CONFIRMED), row(MUTANT, Verdict.NOT_EXERCISED)], Exit.VIOLATED, 1),
        ([row(None, Verdict.CONFIRMED), row(MUTANT)], Exit.VIOLATED, 1),
        # A mutant proves nothing where the unpatched kernel is not confirmed.
        ([row(None, Verdict.VIOLATED), row(MUTANT, Verdict.VIOLATED)], Exit.VIOLATED, 0),
        ([row(None, Verdict.CONFIRMED), row(MUTANT, Verdict.HARNESS_FAULT)], Exit.HARNESS_FAULT, 1),
    ],
)
def test_exit_of_a_matrix(rows: list[MutantResult], exit_code: Exit, survivors: int) -> None:
    matrix = Matrix("debian:6.12", "tcg-svm", tuple(rows))
    assert (matrix.exit, len(matrix.survivors)) == (exit_code, survivors)


def run(**verdicts: Verdict) -> RunResult:
    """A run in which `known` is a claim that is known to be violated."""
    claims = [
        ClaimVerdict(
            ClaimUse(claim=Claim(id=name, text="t", source="s")), verdict, (), "violated" if name == "known" else None
        )
        for name, verdict in verdicts.items()
    ]
    return RunResult("s", "t", "debian:6.1", "6.1", "tcg-vmx", Path(), 1.0, Judgement(tuple(claims)))


def test_what_the_unpatched_kernel_violates_kills_no_mutant() -> None:
    base = (run(known=Verdict.VIOLATED, kept=Verdict.CONFIRMED),)
    stock = summarize(None, base)
    assert stock.verdicts == {"known": Verdict.VIOLATED, "kept": Verdict.CONFIRMED}
    assert stock.undeclared == frozenset()
    survivor = summarize(MUTANT, base, base)
    assert survivor.verdicts == {"kept": Verdict.CONFIRMED}
    assert Matrix("debian:6.1", "tcg-vmx", (stock, survivor)).survivors == [survivor]
    killed = summarize(MUTANT, (run(known=Verdict.VIOLATED, kept=Verdict.VIOLATED),), base)
    assert killed.killed_by == ["kept"]
    assert Matrix("debian:6.1", "tcg-vmx", (stock, killed)).exit is Exit.CONFIRMED


def test_a_known_violation_that_is_gone_is_news() -> None:
    stock = summarize(None, (run(known=Verdict.CONFIRMED),))
    assert stock.undeclared == {"known"}
    assert Matrix("debian:6.1", "tcg-vmx", (stock,)).exit is Exit.VIOLATED


def test_plan() -> None:
    scenario = load_scenario(PROJECT / "scenarios/load-unload.yaml")
    claim = scenario.claims[0].claim.id
    elsewhere, here = replace(MUTANT, engines=("tcg-vmx",)), replace(MUTANT, id="h", engines=("tcg-vmx", "tcg-svm"))
    mutants = [elsewhere, here, replace(MUTANT, id="a", claims=(claim,)), replace(MUTANT, id="b", claims=("other",))]

    def planned(every: bool) -> dict[str, int]:
        return {mutant.id: len(trials) for mutant, trials in plan(mutants, [scenario], Tools("tcg-svm"), every)}

    assert planned(every=False) == {"h": 1, "a": 1, "b": 0}
    assert planned(every=True) == {"h": 1, "a": 1, "b": 1}


def test_plan_leaves_out_a_scenario_that_needs_what_the_engine_lacks() -> None:
    for_svm, for_any = (
        load_scenario(PROJECT / "scenarios" / f"{name}.yaml") for name in ("failed-enable", "hotplug")
    )
    [(_, trials)] = plan([MUTANT], [for_svm, for_any], Tools("tcg-vmx"), every=True)
    assert [trial.scenario for trial in trials] == [for_any]


@pytest.mark.boot
def test_a_mutant_is_built_and_killed_by_its_claim_and_the_unpatched_kernel_is_confirmed(tmp_path: Path) -> None:
    harness = Path(sys.executable).with_name("harness")
    argv = [
        *(str(harness), "-q", "mutants", str(MUTANTS / "6.12" / "misc-register-first.patch")),
        *("--scenario", str(PROJECT / "scenarios" / "load-unload.yaml"), "--engine", "tcg-svm", "--json", "-"),
    ]
    env = {**os.environ, "HARNESS_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    stock, mutant = json.loads(done.stdout)["mutants"]
    assert set(stock["verdicts"].values()) == {"confirmed"}
    assert mutant["killed_by"] == ["misc-register-last"]
    findings = [f for c in mutant["runs"][0]["claims"] if c["id"] == "misc-register-last" for f in c["findings"]]
    (failed,) = [finding for finding in findings if finding["finding"] == "failed"]
    assert [event["name"] for event in failed["events"]] == ["misc_register", "register_syscore"]
