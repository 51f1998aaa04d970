"""Plans in the folders of commands that can be resumed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.plan_file import PLAN, PlanFile


@dataclass(frozen=True)
class _Plan(PlanFile):
    work = "an errand"

    places: tuple[str, ...]
    repeat: int = 1


def test_a_plan_is_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    plan = _Plan(("here", "there"), 3)
    plan.save(tmp_path)
    assert _Plan.load(tmp_path) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not the folder of an errand"),
        ("[]", "is not the plan of an errand"),
        ('{"places": []}', "was written by another version of the harness"),
        ('{"format": 1, "places": [], "speed": 2}', "is not the plan of an errand"),
        ('{"format": 1}', "is not the plan of an errand"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / PLAN).write_text(text)
    with pytest.raises(UsageError, match=message):
        _Plan.load(tmp_path)


def test_a_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the folder of an errand"):
        _Plan.load(tmp_path)
