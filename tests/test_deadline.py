from __future__ import annotations

import time

import pytest

from harness.deadline import PATIENCE, Deadline
from harness.errors import UsageError


def test_a_deadline_is_so_far_away() -> None:
    assert 9 < Deadline.after(10, "x").remaining() <= 10


def test_with_patience_every_wait_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, "4")
    whole = Deadline.after(10, "x")
    assert 39 < whole.remaining() <= 40
    assert 3 < whole.sooner(1, "y").remaining() <= 4
    assert whole.sooner(11, "y").remaining() <= 40


def test_a_part_is_not_later_than_the_whole() -> None:
    whole = Deadline.after(1, "the run")
    assert whole.sooner(5, "a step").at == whole.at
    assert "within the run" in whole.sooner(5, "a step").what


@pytest.mark.parametrize("text", ["0", "0.5", "-1", "101", "long", "nan", ""])
def test_patience_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENCE, text)
    with pytest.raises(UsageError, match=PATIENCE):
        Deadline.after(1, "x")


def test_a_pause_ends_with_the_deadline() -> None:
    began = time.monotonic()
    Deadline.after(0.01, "x").pause(5)
    assert time.monotonic() - began < 1
