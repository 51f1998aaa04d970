"""What the runs on a revision say to git bisect."""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.bisection.history import Commit
from harness.cache import disk_full_is_a_host_fault
from harness.errors import Exit
from harness.judge.verdict import Verdict
from harness.report.result import RunResult

# A claim of a scenario, by name and id.
Place = tuple[str, str]


class Answer(enum.Enum):
    """git-bisect(1): 0 is good, 125 cannot be tested, 1 to 127 else are bad, and 128 on end the bisection."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"
    ABORT = "abort"

    @property
    def status(self) -> int:
        return _STATUS[self]


_STATUS = {Answer.GOOD: 0, Answer.BAD: 1, Answer.SKIP: 125, Answer.ABORT: 128 + int(Exit.HARNESS_FAULT)}

_ANSWERS = {
    Verdict.CONFIRMED: Answer.GOOD,
    Verdict.VIOLATED: Answer.BAD,
    Verdict.NOT_EXERCISED: Answer.SKIP,
    Verdict.HARNESS_FAULT: Answer.ABORT,
}

# A violation that one run has seen is not taken back by another run, which saw nothing or failed.
_WEIGHT = (Verdict.CONFIRMED, Verdict.NOT_EXERCISED, Verdict.HARNESS_FAULT, Verdict.VIOLATED)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """What several verdicts on the same thing come to; none at all is not exercised."""
    return max(verdicts, key=_WEIGHT.index, default=Verdict.NOT_EXERCISED)


def verdicts_of(results: Sequence[RunResult]) -> dict[Place, Verdict]:
    """The verdict on each claim of each scenario, over all its runs. What is declared as known counts for nothing."""
    found: dict[Place, list[Verdict]] = {}
    for result in results:
        for claim in result.judgement.claims:
            found.setdefault((result.scenario, claim.use.claim.id), []).append(claim.verdict)
    return {place: worst(verdicts) for place, verdicts in found.items()}


def answer_of(verdicts: Mapping[Place, Verdict], places: Collection[Place]) -> Answer:
    """Bad when one of `places` is violated, good when all of them are confirmed."""
    return _ANSWERS[worst(verdicts.get(place, Verdict.NOT_EXERCISED) for place in places)]


def why(verdicts: Mapping[Place, Verdict], places: Collection[Place]) -> str:
    """The verdicts that decided, and on which claims."""
    decisive = worst(verdicts.get(place, Verdict.NOT_EXERCISED) for place in places)
    claims = [
        claim for scenario, claim in places if verdicts.get((scenario, claim), Verdict.NOT_EXERCISED) is decisive
    ]
    return f"{decisive.value}: {', '.join(dict.fromkeys(claims))}"


@dataclass(frozen=True)
class Answered:
    """A revision that was tested. `why` are its verdicts in short, or why there are none; `runs` are folders."""

    commit: Commit
    answer: Answer
    why: str
    seconds: float
    verdicts: Mapping[Place, Verdict] = field(default_factory=dict)
    runs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "commit": self.commit.id,
            "title": self.commit.title,
            "answer": self.answer.value,
            "why": self.why,
            "seconds": round(self.seconds, 3),
            "verdicts": [[*place, verdict.value] for place, verdict in self.verdicts.items()],
            "runs": list(self.runs),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Answered:
        """The inverse of `to_json`."""
        return cls(
            Commit(data["commit"], data["title"]),
            Answer(data["answer"]),
            data["why"],
            data["seconds"],
            {(scenario, claim): Verdict(verdict) for scenario, claim, verdict in data["verdicts"]},
            tuple(data["runs"]),
        )


def read_answers(path: Path) -> dict[str, Answered]:
    """The revisions that were tested so far, by commit; those on which the harness failed are to be tested again."""
    return {tested.commit.id: tested for tested in read_log(path) if tested.answer is not Answer.ABORT}


def read_log(path: Path) -> list[Answered]:
    """All that `append_answer` has written, in order. Half a line, of a disk that was full, is none."""
    whole, newline, _ = path.read_text().rpartition("\n") if path.exists() else ("", "", "")
    return [Answered.from_json(json.loads(line)) for line in whole.splitlines()] if newline else []


def append_answer(path: Path, tested: Answered) -> None:
    """Adds a line, behind the last whole one. Raises DiskFull."""
    with disk_full_is_a_host_fault(path.parent), path.open("ab") as file:
        whole = path.read_bytes().rpartition(b"\n")
        file.truncate(len(whole[0] + whole[1]))
        file.write(json.dumps(tested.to_json()).encode() + b"\n")
