"""The order of the runs, and what becomes of a subject that cannot run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.bench.turns import Section, Wanted, measure
from harness.deadline import Deadline
from harness.errors import HostFault


class Scripted:
    """Takes the times that it is given; None stands for a run that fails."""

    def __init__(self, name: str, seconds: Sequence[float | None], log: list[str], broken: bool = False) -> None:
        self.name = name
        self._seconds = list(seconds)
        self._log = log
        self._broken = broken

    def prepare(self, deadline: Deadline) -> None:
        self._log.append(f"prepare {self.name}")
        if self._broken:
            raise HostFault(f"{self.name} cannot be had here")

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        self._log.append(self.name)
        value = self._seconds.pop(0)
        if value is None:
            raise HostFault(f"{self.name} died")
        return {self.name: value, f"{self.name}, part": value / 2}


RATIO = Wanted("A / B", "A", "B", target=0.5)


def test_runs_are_taken_in_turn_after_all_are_prepared() -> None:
    log: list[str] = []
    section = Section("s", [Scripted("A", [1, 2, 3], log), Scripted("B", [4, 5, 6], log)], [RATIO])
    results = measure(section, 3)
    assert log == ["prepare A", "prepare B", "A", "B", "A", "B", "A", "B"]
    assert {figure.name: figure.seconds for figure in results.figures} == {
        "A": (1, 2, 3),
        "A, part": (0.5, 1, 1.5),
        "B": (4, 5, 6),
        "B, part": (2, 2.5, 3),
    }
    [ratio] = results.ratios
    assert ratio.values == (1 / 4, 2 / 5, 3 / 6)
    assert (ratio.median, ratio.target, ratio.reached) == (2 / 5, 0.5, True)
    assert results.missing == ()


def test_a_subject_that_cannot_be_prepared_is_missing_and_the_other_is_measured() -> None:
    log: list[str] = []
    results = measure(Section("s", [Scripted("A", [1, 2], log), Scripted("B", [], log, broken=True)], [RATIO]), 2)
    assert log == ["prepare A", "prepare B", "A", "A"]
    assert [figure.name for figure in results.figures] == ["A", "A, part"]
    assert results.ratios == ()
    assert [(missing.name, missing.error.what) for missing in results.missing] == [("B", "B cannot be had here")]


def test_a_subject_that_fails_in_a_round_is_not_run_again_and_has_no_figure() -> None:
    log: list[str] = []
    section = Section("s", [Scripted("A", [1, None, 3], log), Scripted("B", [4, 5, 6], log)], [RATIO])
    results = measure(section, 3)
    assert log.count("A") == 2
    assert [figure.name for figure in results.figures] == ["B", "B, part"]
    assert [missing.name for missing in results.missing] == ["A"]
    assert results.ratios == ()
