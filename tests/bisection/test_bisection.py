"""Git's search: over answers that are there already, and over real kernels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.bisection.answer import Answer, Answered, Place
from harness.bisection.bisection import ANSWERS, LOG, Bisection, Found, never_booted
from harness.bisection.history import Commit
from harness.bisection.plan import Plan
from harness.bisection.report import border, to_json, write_summary
from harness.deadline import Deadline
from harness.errors import Exit, HostFault, NotExercised, UsageError
from harness.judge.verdict import Verdict
from harness.paths import PROJECT, cache_dir
from harness.report.result import RunResult
from tests.bisection.histories import Repository, kvm_history, plain_history
from tests.bisection.test_answer import recorded

HARNESS = Path(sys.executable).with_name("harness")
SCENARIO = PROJECT / "scenarios/load-unload.yaml"
PLACE: Place = ("load-unload", "cpuhp-invokes-online-on-each-cpu")

_RUNS = {Answer.GOOD: "load-unload-6.12-confirmed", Answer.BAD: "mutant-cpuhp-nocalls-violated"}
_VERDICTS = {Answer.GOOD: Verdict.CONFIRMED, Answer.BAD: Verdict.VIOLATED, Answer.SKIP: Verdict.NOT_EXERCISED}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return plain_history(tmp_path / "linux")


def answered(tmp_path: Path, repository: Repository, answers: str) -> Bisection:
    """A bisection whose every revision was tested before: g, b, s or a for each commit, - for one that was not."""
    folder = tmp_path / "bisect"
    folder.mkdir()
    ids = list(repository.ids.values())
    plan = Plan(str(repository.path), ids[0], ids[-1], (str(SCENARIO),), "tcg-svm")
    plan.save(folder)
    words = {answer.value[0]: answer for answer in Answer}
    with (folder / ANSWERS).open("w") as file:
        for (title, id), letter in zip(repository.ids.items(), answers, strict=True):
            if letter != "-":
                answer = words[letter]
                verdicts = {PLACE: _VERDICTS[answer]} if answer in _VERDICTS else {}
                runs = (str(PROJECT / "tests/recorded" / _RUNS[answer]),) if answer in _RUNS else ()
                tested = Answered(Commit(id, title), answer, f"as the test says: {answer.value}", 1.0, verdicts, runs)
                file.write(json.dumps(tested.to_json()) + "\n")
    return Bisection.load(folder)


def test_first_bad_commit_is_found_and_the_repository_left_alone(tmp_path: Path, repository: Repository) -> None:
    (repository.path / "virt/kvm/kvm_main.c").write_text("being edited\n")
    before = repository.state
    bisection = answered(tmp_path, repository, "gggggbbb")
    assert bisection.verify() == [PLACE]
    found = bisection.search()
    assert [commit.title for commit in found.candidates] == ["c5"]
    assert found.exit is Exit.CONFIRMED
    assert repository.state == before
    assert "# first bad commit" in (bisection.folder / LOG).read_text()
    assert [tested.commit.title for tested in border(bisection, found)] == ["c4", "c5"]


def test_summary_has_the_evidence_of_both_sides(tmp_path: Path, repository: Repository) -> None:
    bisection = answered(tmp_path, repository, "gggggbbb")
    found = Found((Commit(repository.ids["c5"], "c5"),))
    text = write_summary(bisection, found).read_text()
    assert "the first bad commit is\ncommit " + repository.ids["c5"] in text
    good, bad = text.index("\ngood: "), text.index("\nbad: ")
    assert "cpuhp-invokes-online-on-each-cpu on debian:6.12 tcg-svm: confirmed" in text[good:bad]
    assert "cpuhp-invokes-online-on-each-cpu on debian:6.12 +cpuhp-nocalls" in text[bad:]
    assert "virtualization on at loaded: CPU none; expected: 0, 1, 2, 3" in text[bad:]
    data = to_json(bisection, found)
    assert data["first_bad"] == [{"commit": repository.ids["c5"], "title": "c5"}]
    assert data["claims"] == [{"scenario": PLACE[0], "claim": PLACE[1]}]


def test_skipped_revisions_leave_several(tmp_path: Path) -> None:
    bisection = answered(tmp_path, plain_history(tmp_path / "linux", 5), "gsssb")
    found = bisection.search()
    assert {commit.title for commit in found.candidates} == {"c1", "c2", "c3", "c4"}
    assert found.exit is Exit.NOT_EXERCISED
    assert "one of 4" in write_summary(bisection, found).read_text()
    assert [tested.commit.title for tested in border(bisection, found)] == ["c0", "c4"]


def test_a_branch_is_searched_although_good_is_on_another(tmp_path: Path) -> None:
    repository = plain_history(tmp_path / "linux", 3)
    repository.git("checkout", "--quiet", "-b", "side", repository.ids["c0"])
    repository.commit("side", {"other.c": "int other;\n"})
    good = repository.ids.pop("side")
    repository.ids = {"side": good, **repository.ids}
    bisection = answered(tmp_path, repository, "ggbb")
    assert [commit.title for commit in bisection.search().candidates] == ["c1"]


def test_a_fix_on_the_good_side_is_no_first_bad_commit(tmp_path: Path) -> None:
    repository = plain_history(tmp_path / "linux", 3)
    repository.git("checkout", "--quiet", "-b", "side", repository.ids["c0"])
    repository.commit("side", {"other.c": "int other;\n"})
    repository.ids = {"side": repository.ids.pop("side"), **repository.ids}
    with pytest.raises(UsageError, match="fixed on the good side"):
        answered(tmp_path, repository, "gbbb").search()


@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        ("bggggggb", UsageError, "nothing to bisect"),
        ("gggggggg", UsageError, "nothing to bisect"),
        ("sggggggb", NotExercised, "the good revision .* says nothing"),
        ("ggggggbs", NotExercised, "the bad revision .* says nothing"),
    ],
)
def test_ends_that_are_not_what_they_were_said_to_be(
    tmp_path: Path, repository: Repository, answers: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        answered(tmp_path, repository, answers).verify()


def test_a_fault_of_the_harness_ends_the_search(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no network, and nothing in the cache."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    before = repository.state
    bisection = answered(tmp_path, repository, "ggg-bbbb")
    bisection = replace(bisection, plan=replace(bisection.plan, kernel="debian:6.12"))
    bisection.plan.save(bisection.folder)
    with pytest.raises(HostFault, match=r"the harness failed on .*c3") as caught:
        bisection.search()
    assert "--resume" in caught.value.hint
    assert repository.state == before
    assert repository.ids["c3"] not in bisection.answers, "it would not be tested again"


def test_a_step_that_crashes_makes_no_revision_bad(tmp_path: Path, repository: Repository) -> None:
    bisection = answered(tmp_path, repository, "ggg-bbbb")
    plan = bisection.folder / "plan.json"
    plan.write_text(plan.read_text().replace('"repeat": 1', '"repeat": "many"'))
    with pytest.raises(HostFault, match="git bisect run failed"):
        bisection.search()


def test_a_step_that_does_not_begin_makes_no_revision_bad(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's exit status for a module that cannot be imported is 1, git's for bad."""
    monkeypatch.setattr("harness.bisection.bisection._LEASH", ("env", "PYTHONHOME=/nowhere"))
    with pytest.raises(HostFault, match=r"an answer for .*c\d.* that the harness did not give"):
        answered(tmp_path, repository, "ggg-bbbb").search()


def test_a_fault_of_the_harness_on_an_end_is_one(tmp_path: Path, repository: Repository) -> None:
    bisection = answered(tmp_path, repository, "a------b")
    bisection = replace(bisection, plan=replace(bisection.plan, kernel="image:/nowhere"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bisection, "_run", _no_network)
        with pytest.raises(HostFault, match=r"the harness failed on .*c0"):
            bisection.verify()


def _no_network(bisection: Bisection, commit: Commit) -> list[RunResult]:
    raise HostFault("there is no network")


def test_a_revision_that_does_not_build_is_skipped(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tree has no Makefile."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/qemu").symlink_to(cache_dir() / "qemu")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    answer = answered(tmp_path, repository, "g------b").test(Commit(repository.ids["c3"], "c3"))
    assert answer.answer is Answer.SKIP
    assert answer.why.startswith("does not build: git:")


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"fault": {"exit": 1}, "online": []}, True),
        ({"fault": {"exit": 1}, "online": [0, 1]}, False),  # it hung later: that is what a scenario is for
        ({"fault": {"exit": 3}, "online": []}, False),
        ({"fault": None, "online": [0, 1]}, False),
    ],
)
def test_never_booted(tmp_path: Path, run: Mapping[str, object], expected: bool) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert never_booted(replace(recorded("load-unload-6.12-confirmed"), folder=tmp_path)) is expected


# --- the command line -----------------------------------------------------------------------------------------


def harness(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HARNESS, "bisect", *words], capture_output=True, text=True, timeout=120, cwd=folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bad", "main"], "a bisection needs --good, --bad, --tree and a scenario"),
        (["--good", "nix", "--bad", "main"], "has no revision 'nix'"),
        (["--good", "main", "--bad", "main~1"], "are they the other way round?"),
        (["--good", "main~1", "--bad", "main", "--claim", "nix"], "no scenario decides claim 'nix'"),
        (["--good", "main~1", "--bad", "main", "--engine", "warp"], "unknown engine 'warp'"),
        (["--good", "main~2", "--bad", "main", "--dir", "linux"], "linux is there already"),
        (
            ["--good", "main~2", "--bad", "main", "--kernel", "debian:6.12"],
            "1 of 2 commits change what is not in the",
        ),
        (["--resume", "linux"], "--resume goes on with what was asked for"),
    ],
)
def test_wrong_input(tmp_path: Path, words: list[str], message: str) -> None:
    repository = plain_history(tmp_path / "linux", 2)
    repository.commit("reboot", {"arch/x86/kernel/reboot.c": "int reboot;\n"})
    done = harness(tmp_path, "--tree", "linux", *words, str(SCENARIO))
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["linux"]


def test_a_folder_that_is_no_bisection_s(tmp_path: Path) -> None:
    done = harness(tmp_path, "--resume", ".")
    assert (done.returncode, "is not the folder of a bisection" in done.stderr) == (2, True)


# --- real kernels ---------------------------------------------------------------------------------------------


@pytest.mark.boot
@pytest.mark.network
@pytest.mark.slow
def test_the_mutant_in_a_history_is_found_after_an_interruption(tmp_path: Path) -> None:
    """Six kernels are built, of which two do not compile, and five booted: a minute of CPU time."""
    repository = kvm_history(tmp_path / "linux", Deadline.after(900, "sources of Debian's 6.12"))
    before = repository.state
    ends = ["--good", next(iter(repository.ids.values())), "--bad", "main", "--tree", str(repository.path)]
    rest = ["--kernel", "debian:6.12", "--engine", "tcg-svm", "--dir", "bisect", str(SCENARIO)]
    begun = subprocess.Popen([HARNESS, "bisect", *ends, *rest], cwd=tmp_path, start_new_session=True)
    log = tmp_path / "bisect" / ANSWERS
    deadline = Deadline.after(900, "three revisions")
    while not log.exists() or len(log.read_text().splitlines()) < 3:
        assert begun.poll() is None
        deadline.check()
        time.sleep(0.05)
    os.kill(begun.pid, signal.SIGINT)
    assert begun.wait(60) == 130
    assert repository.state == before

    resume = [str(HARNESS), "bisect", "--resume", "bisect", "--json", "-"]
    done = subprocess.run(resume, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=900, check=True)
    data = json.loads(done.stdout)
    assert [commit["title"] for commit in data["first_bad"]] == ["KVM: Tell user space as soon as possible"]
    assert data["claims"] == [{"scenario": "load-unload", "claim": "misc-register-last"}]
    answers = {tested["title"]: (tested["answer"], tested["why"]) for tested in data["tested"]}
    assert answers["KVM: SVM: Go on with the clean-up"][0] == "skip"
    assert "does not build" in answers["KVM: SVM: Go on with the clean-up"][1]
    assert answers["KVM: SVM: Complete the clean-up"][0] == "good"
    assert repository.state == before
    assert "register_syscore.return on CPU" in (tmp_path / "bisect/summary.txt").read_text()
