"""A bisection in its folder: what was tested, and git's search over the rest.

The folder is enough to go on after ^C: `plan.json` says what is bisected, and `answers.jsonl` has a line for each
revision, written when its runs ended. Going on asks git to search anew, with the answers that are there already.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness import paths, process, progress
from harness.bisection.answer import (
    Answer,
    Answered,
    Place,
    answer_of,
    append_answer,
    read_answers,
    read_log,
    verdicts_of,
    why,
)
from harness.bisection.history import Commit, History
from harness.bisection.plan import Plan
from harness.deadline import Deadline
from harness.errors import DoesNotBuild, Exit, HarnessError, HostFault, NotExercised, ScenarioError, UsageError
from harness.judge.verdict import Verdict
from harness.machine.auto import Tools
from harness.report.result import RunResult
from harness.run import Job, run_job

ANSWERS = "answers.jsonl"
LOG = "git-bisect.log"
OUTPUT = "git.log"
_WORKTREE = "worktree"

_TRIES = 2  # a harness fault may be a host that was slow for a moment
_REVISION_S = 4 * 3600.0  # building a distribution's configuration on a small machine, and the runs
_CLEAN_UP_S = 60.0  # a run that is interrupted ends its QEMU and completes its folder; 1 s on an idle host
# Exit statuses of `git bisect run`, git's bisect.h.
_ONLY_SKIPPED_LEFT = 2
_MERGE_BASE_IS_BAD = 3

# git and each step end when whoever started them does, however that came about.
_LEASH = ("setpriv", "--pdeathsig", "INT")


@dataclass(frozen=True)
class Found:
    """What a bisection came to: the first bad commit, or several that could not be told apart."""

    candidates: tuple[Commit, ...]

    @property
    def exit(self) -> Exit:
        return Exit.CONFIRMED if len(self.candidates) == 1 else Exit.NOT_EXERCISED


@dataclass(frozen=True)
class Bisection:
    """A bisection; `folder` is absolute."""

    folder: Path
    plan: Plan

    @classmethod
    def load(cls, folder: Path) -> Bisection:
        """Raises UsageError when `folder` is none of a bisection."""
        return cls(folder.absolute(), Plan.load(folder))

    @cached_property
    def history(self) -> History:
        return self.plan.history

    @property
    def answers(self) -> dict[str, Answered]:
        """By commit, in the order in which they were tested."""
        return read_answers(self.folder / ANSWERS)

    def verify(self) -> list[Place]:
        """Tests the good and the bad revision; returns the claims that the one confirms and the other violates.

        Raises UsageError when there are none since the revisions are not what they were said to be, NotExercised when
        one of them cannot be told, HostFault.
        """
        good, bad = (self.test(self.history.commit(revision)) for revision in (self.plan.good, self.plan.bad))
        for tested, said in ((good, Answer.GOOD), (bad, Answer.BAD)):
            if tested.answer is Answer.ABORT:
                raise self._failed_on(tested)
            if tested.answer is Answer.SKIP:
                raise NotExercised(
                    f"the {said.value} revision {tested.commit} says nothing",
                    expected=_EXPECTED[said],
                    found=tested.why,
                    hint="name another revision, or a scenario that is exercised on it",
                )
        places = self.places
        if not places:
            raise UsageError(
                "no claim is confirmed on the good revision and violated on the bad one: there is nothing to bisect",
                expected=f"{_EXPECTED[Answer.GOOD]} on {good.commit}, and {_EXPECTED[Answer.BAD]} on {bad.commit}",
                found=f"{_list(good.verdicts)} on the former; {_list(bad.verdicts)} on the latter",
            )
        for place in self._counted(good.verdicts):
            if good.verdicts[place] is not Verdict.CONFIRMED and place not in places:
                progress.note(f"{place[1]} is {good.verdicts[place].value} on the good revision, and left out")
        return places

    @property
    def places(self) -> list[Place]:
        """The claims that are bisected. The good and the bad revision must have been tested."""
        tested = self.answers
        good, bad = (tested[revision] for revision in (self.plan.good, self.plan.bad))
        return [
            place
            for place in self._counted(good.verdicts)
            if good.verdicts[place] is Verdict.CONFIRMED and bad.verdicts.get(place) is Verdict.VIOLATED
        ]

    def test(self, commit: Commit) -> Answered:
        """What the runs on `commit` say; from the folder where they were run before.

        A fault of the harness is tried once more, and is then an answer too: git ends its search at it. Raises
        UsageError, HostFault for what concerns no revision.
        """
        if (before := self.answers.get(commit.id)) is not None:
            return before
        begin = time.monotonic()
        with progress.task(f"test {commit}") as task, paths.runs_in(self.folder / "runs"):
            tested = self._tried(commit, begin)
            task.outcome = f"{tested.answer.value}, {tested.why}"
        append_answer(self.folder / ANSWERS, tested)
        return tested

    def search(self) -> Found:
        """Has git search between the good and the bad revision, which were verified.

        Raises UsageError when it was broken before the good revision, HostFault when the harness or git failed,
        KeyboardInterrupt; leaves nothing behind in the repository.
        """
        with self._worktree() as worktree:
            git = History(worktree)
            git.git("bisect", "start", "--no-checkout", self.plan.bad, self.plan.good)
            try:
                status = self._drive(worktree)
            finally:
                with contextlib.suppress(HarnessError):
                    (self.folder / LOG).write_text(git.git("bisect", "log"))
            if status in (0, _ONLY_SKIPPED_LEFT):
                bad = git.commit("refs/bisect/bad")
                goods = git.git("for-each-ref", "--format=%(objectname)", "refs/bisect/good-*").split()
                self._require_answers(bad, goods)
                return Found((bad,) if status == 0 else self._undecided(bad.id, goods))
        if status == _MERGE_BASE_IS_BAD:
            raise UsageError(
                "what the good and the bad revision have in common is bad: what broke it was fixed on the good side",
                expected="a good revision that the bad one goes back to",
                hint=f"git merge-base {self.plan.good[:12]} {self.plan.bad[:12]} says where they part",
            )
        raise self._stopped(status)

    def _tried(self, commit: Commit, begin: float) -> Answered:
        tested: Answered | None = None
        for _ in range(_TRIES):
            tested = self._try(commit, begin)
            if tested.answer is not Answer.ABORT:
                break
        assert tested is not None
        return tested

    def _try(self, commit: Commit, begin: float) -> Answered:
        def told(answer: Answer, text: str) -> Answered:
            return Answered(commit, answer, text, time.monotonic() - begin)

        try:
            results = self._run(commit)
        except DoesNotBuild as error:
            return told(Answer.SKIP, f"does not build: {error.what}")
        except ScenarioError as error:  # the file was loaded before: it is this kernel that lacks a function
            return told(Answer.SKIP, error.what)
        except HostFault as fault:
            return told(Answer.ABORT, str(fault))
        if any(map(never_booted, results)):
            return told(Answer.SKIP, f"does not boot: {next(filter(None, (result.fault for result in results)))}")
        verdicts = verdicts_of(results)
        runs = tuple(str(result.folder) for result in results)
        # Of the good and the bad revision every claim counts: only then it is known which are bisected.
        places = self._counted(verdicts) if commit.id in (self.plan.good, self.plan.bad) else self.places
        seconds = time.monotonic() - begin
        return Answered(commit, answer_of(verdicts, places), why(verdicts, places), seconds, verdicts, runs)

    def _counted(self, verdicts: Mapping[Place, Verdict]) -> list[Place]:
        return [place for place in verdicts if not self.plan.claims or place[1] in self.plan.claims]

    def _run(self, commit: Commit) -> list[RunResult]:
        spec, options = self.plan.revision(commit.id, self.folder)
        tools = Tools(self.plan.engine)
        # A snapshot of a kernel that is run once costs more than it gains.
        once = len(scenarios := self.plan.loaded()) * self.plan.repeat == 1
        jobs = [
            Job(scenario, spec, tools.engine(scenario.machine), tools.qemu, options, cold=once)
            for scenario in scenarios
            for _ in range(self.plan.repeat)
        ]
        return [run_job(job) for job in jobs]

    @contextlib.contextmanager
    def _worktree(self) -> Iterator[Path]:
        """A worktree without files. Git's notes on a bisection are a worktree's own: the user's are not touched."""
        path = self.folder / _WORKTREE
        self._remove_worktree(path)  # of a harness that was killed
        self.history.git("worktree", "add", "--force", "--no-checkout", "--detach", path, self.plan.bad)
        try:
            yield path
        finally:
            self._remove_worktree(path)

    def _remove_worktree(self, path: Path) -> None:
        with contextlib.suppress(process.ProcessFailed):  # there is none
            self.history.git("worktree", "remove", "--force", path)
        shutil.rmtree(path, ignore_errors=True)

    def _drive(self, worktree: Path) -> int:
        """The exit status of `git bisect run`, in a process group of its own so that ^C comes to all of it once."""
        step = [*_LEASH, sys.executable, "-P", "-m", "harness.bisection", str(self.folder), progress.level().name]
        argv = [*_LEASH, "git", "-C", str(worktree), "bisect", "run", *step]
        steps = len(self.history.between(self.plan.good, self.plan.bad)).bit_length() + 2
        deadline = Deadline.after(steps * _REVISION_S, "git bisect run")
        with (self.folder / OUTPUT).open("a") as output:
            child = subprocess.Popen(argv, stdout=output, text=True, start_new_session=True)
            try:
                return child.wait(deadline.remaining())
            except subprocess.TimeoutExpired as error:
                raise deadline.exceeded() from error
            except KeyboardInterrupt:
                os.killpg(child.pid, signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_CLEAN_UP_S)
                raise
            finally:
                process.kill_group(child)

    def _require_answers(self, bad: Commit, goods: Sequence[str]) -> None:
        """Raises HostFault when git has taken for an answer what is none: a step that could not even be started, or
        was ended by somebody, has an exit status too."""
        tested = self.answers
        taken = {**dict.fromkeys(goods, Answer.GOOD), bad.id: Answer.BAD}
        wrong = [
            id
            for id, answer in taken.items()
            if id not in (self.plan.good, self.plan.bad) and (id not in tested or tested[id].answer is not answer)
        ]
        if wrong:
            raise HostFault(
                f"git bisect has an answer for {self.history.commit(wrong[0])} that the harness did not give",
                hint=f"harness bisect --resume {self.folder}",
                evidence=process.tail((self.folder / OUTPUT).read_text(errors="replace")),
            )

    def _undecided(self, bad: str, goods: Sequence[str]) -> tuple[Commit, ...]:
        lines = self.history.git("rev-list", bad, "--not", *goods).split()
        return tuple(map(self.history.commit, lines))

    def _stopped(self, status: int) -> HostFault:
        last = read_log(self.folder / ANSWERS)[-1]
        if last.answer is Answer.ABORT:
            return self._failed_on(last)
        output = (self.folder / OUTPUT).read_text(errors="replace")
        return HostFault("git bisect run failed", found=f"exit status {status}", evidence=process.tail(output))

    def _failed_on(self, tested: Answered) -> HostFault:
        return HostFault(
            f"the harness failed on {tested.commit}",
            hint=f"harness bisect --resume {self.folder}",
            evidence=tested.why,
        )


_EXPECTED = {Answer.GOOD: "claims that are confirmed", Answer.BAD: "one of them violated"}


def _list(verdicts: Mapping[Place, Verdict]) -> str:
    return ", ".join(f"{claim} {verdict.value}" for (_, claim), verdict in verdicts.items()) or "nothing"


def never_booted(result: RunResult) -> bool:
    """Whether the kernel's own fault ended the first boot before the guest was ready."""
    run = json.loads((result.folder / "run.json").read_text())
    return bool(run["fault"]) and run["fault"]["exit"] == Exit.VIOLATED and not run["online"]
