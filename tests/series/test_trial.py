"""What a series changed: judged from recorded runs, and refused before anything boots."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.errors import DoesNotBuild, Exit
from harness.judge.verdict import ClaimVerdict, Finding, Found, Judgement, Verdict
from harness.kernels.mailbox import Series, read_series
from harness.paths import PROJECT
from harness.report.result import RunResult
from harness.scenario.load import load_scenario
from harness.scenario.model import VerdictName
from harness.series.relevance import Chosen
from harness.series.report import print_trials, sentences, to_json
from harness.series.touched import touched
from harness.series.trial import Difference, Trial, build, suits, target_of
from tests.bisection.test_answer import recorded
from tests.kernels.test_mailbox import mail

HARNESS = Path(sys.executable).with_name("harness")
C, V, N, H = Verdict.CONFIRMED, Verdict.VIOLATED, Verdict.NOT_EXERCISED, Verdict.HARNESS_FAULT
LOADED = load_scenario(PROJECT / "scenarios/load-unload.yaml")


def series(tmp_path: Path, path: str = "virt/kvm/kvm_main.c", text: str = "") -> Series:
    file = tmp_path / "x.mbox"
    file.write_text(mail("[PATCH] KVM: a", "a").replace("virt/kvm/kvm_main.c", path).replace("-- \n", f"{text}-- \n"))
    return read_series(file)


@pytest.fixture
def trial() -> Trial:
    """A real run of Debian's 6.12, and one of a mutant of it."""
    target = target_of("debian:6.12", Series("x", ()), Path("x.mbox"))
    runs = recorded("load-unload-6.12-confirmed"), recorded("mutant-cpuhp-nocalls-violated")
    return Trial(target, (Chosen(LOADED, ("traces x",)),), (runs[0],), (runs[1],))


def test_differences_of_real_runs(trial: Trial) -> None:
    assert {one.claim: one.change for one in trial.differences} == {
        "ops-patched-before-enable": "broken",
        "cpuhp-invokes-online-on-each-cpu": "broken",
        "syscore-before-state-check": "no longer exercised",
        "unwind-reverse-order": "broken",
        "misc-register-last": "no longer exercised",
    }
    assert trial.exit is Exit.VIOLATED
    told = "debian:6.12: ops-patched-before-enable in load-unload is broken: confirmed → violated"
    assert told in sentences(trial)


def test_side_by_side_with_the_evidence_of_both(trial: Trial, tmp_path: Path) -> None:
    with (tmp_path / "out.txt").open("w") as file:
        print_trials(Console(file=file, width=120), [trial], verbose=False)
    text = (tmp_path / "out.txt").read_text()
    rows = [line for line in text.splitlines() if "│" in line and "cpuhp-invokes-online-on-each-cpu" in line]
    assert [cell.strip() for cell in rows[0].split("│")[3:6]] == ["confirmed", "violated", "broken"]
    assert "cpuhp-invokes-online-on-each-cpu on debian:6.12 tcg-svm: confirmed" in text
    assert "virtualization on at loaded: CPU none; expected: 0, 1, 2, 3" in text
    data = to_json(Series("x", ()), touched([]), [trial])
    assert data["exit"] == 1
    assert data["kernels"][0]["claims"][0]["change"] == "broken"


def test_a_series_that_changes_nothing_says_so(trial: Trial) -> None:
    same = replace(trial, patched=trial.without)
    assert sentences(same) == ["debian:6.12: the series changed no verdict; 5 of 5 confirmed"]
    assert same.exit is Exit.CONFIRMED


def difference(before: Verdict, after: Verdict, known: VerdictName | None = None, splat: bool = False) -> Difference:
    run = recorded("load-unload-6.12-confirmed")
    use = LOADED.claims[0]
    findings = (Found(Finding.FAILED, "BUG: x"),) if splat else ()
    verdicts = ClaimVerdict(use, before, (), known), ClaimVerdict(use, after, findings)
    results: list[RunResult] = [replace(run, judgement=Judgement((one,))) for one in verdicts]
    return Difference(results[0], results[1], *verdicts)


@pytest.mark.parametrize(
    ("found", "change", "exit_code"),
    [
        (difference(C, C), "", Exit.CONFIRMED),
        (difference(C, V), "broken", Exit.VIOLATED),
        (difference(V, C), "fixed", Exit.CONFIRMED),
        (difference(V, C, known="violated"), "fixed", Exit.CONFIRMED),
        (difference(C, N), "no longer exercised", Exit.NOT_EXERCISED),
        (difference(N, V), "seen to be violated", Exit.VIOLATED),
        (difference(C, H), "not known", Exit.HARNESS_FAULT),
        (difference(H, C), "not known", Exit.HARNESS_FAULT),
        # What the kernel is known for is not the patch's doing; what nobody declared is still violated.
        (difference(V, V, known="violated"), "", Exit.CONFIRMED),
        (difference(V, V), "", Exit.VIOLATED),
        (difference(N, N, known="not exercised"), "", Exit.CONFIRMED),
        (difference(N, N), "", Exit.NOT_EXERCISED),
        # A kernel that oopses with the patch is news, whatever else is known of it.
        (difference(V, V, known="violated", splat=True), "violated otherwise too", Exit.VIOLATED),
    ],
)
def test_what_a_change_is_called_and_comes_to(found: Difference, change: str, exit_code: Exit) -> None:
    assert (found.change, found.exit) == (change, exit_code)


@pytest.mark.parametrize(
    ("path", "spec", "built", "modules_only"),
    [
        ("virt/kvm/kvm_main.c", "debian:6.12", "debian:6.12", "kvm"),
        ("arch/x86/kernel/reboot.c", "debian:6.12", "debian-source:6.12", ""),
        ("arch/x86/virt/vmx/tdx/tdx.c", "debian:7.3", "debian-source:7.3+tdx", ""),
        ("arch/x86/virt/vmx/tdx/tdx.c", "debian-source:7.3+tdx", "debian-source:7.3+tdx", ""),
        ("virt/kvm/kvm_main.c", "git:/linux@HEAD", "git:/linux@HEAD", ""),
    ],
)
def test_only_what_must_be_built(tmp_path: Path, path: str, spec: str, built: str, modules_only: str) -> None:
    target = target_of(spec, series(tmp_path, path), tmp_path / "a.mbox", ("kvm",))
    assert (target.spec, target.options.modules_only) == (built, modules_only)
    assert target.options.patches == (tmp_path / "a.mbox",)
    assert bool(target.note) is (built != spec)


def test_scenarios_are_for_the_kernels_that_they_name() -> None:
    for spec in ("debian:6.12", "debian-source:6.12+tdx", "git:/linux@HEAD", "tree:/linux"):
        assert suits(LOADED, spec), spec
    assert not suits(LOADED, "debian:5.10")
    assert not suits(LOADED, "debian-source:5.10+tdx")


@pytest.mark.network
def test_a_series_for_another_kernel_is_refused_before_anything_boots(tmp_path: Path) -> None:
    stale = series(tmp_path, text=f"base-commit: {'ab' * 20}\n")
    mbox = tmp_path / "stale.mbox"
    mbox.write_bytes(stale.mbox())
    with pytest.raises(DoesNotBuild, match=r"does not apply: virt/kvm/kvm_main\.c, hunk 1 \(line 1\)") as caught:
        build(target_of("debian:6.12", stale, mbox), stale)
    assert f"its base-commit is {'ab' * 20}" in caught.value.hint


# --- the command line -----------------------------------------------------------------------------------------


def harness(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HARNESS_RUNS": str(folder / "runs")}
    return subprocess.run([HARNESS, "try", *words], env=env, capture_output=True, text=True, timeout=120, cwd=folder)


def test_wrong_input_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "talk.mbox").write_text(mail("[PATCH 0/2] KVM: both") + mail("Re: [PATCH 0/2] KVM: both"))
    for words, message in (
        (["talk.mbox"], "talk.mbox has no patch in it"),
        (["nix.mbox"], "nix.mbox cannot be read"),
        ([], "Missing argument"),
        ([str(PROJECT / "docs/tutorial/thread.mbox"), "--kernel", "floppy:1"], "floppy:1"),
    ):
        done = harness(tmp_path, *words)
        assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["talk.mbox"]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    done = harness(tmp_path, str(PROJECT / "docs/tutorial/thread.mbox"), "--list")
    assert done.returncode == 0
    assert "v2 is taken, and v1 left out" in done.stderr
    assert "2 replies are left out" in done.stderr
    assert list(tmp_path.iterdir()) == []
