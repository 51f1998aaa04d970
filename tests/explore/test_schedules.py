"""Every interleaving, each once."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.explore.schedules import (
    blocks,
    interleavings,
    number_of_words,
    parse_schedule,
    schedule_name,
    switches,
)

segments = st.dictionaries(st.sampled_from(["load", "reboot", "vm"]), st.integers(0, 3), min_size=1)


@settings(deadline=None)
@given(segments)
def test_every_interleaving_is_there_once(counts: dict[str, int]) -> None:
    found = list(interleavings(counts))
    assert len(found) == len(set(found)) == number_of_words(counts)
    assert all(Counter(schedule) == {name: count for name, count in counts.items() if count} for schedule in found)


@settings(deadline=None)
@given(segments.filter(lambda counts: all(counts.values())), st.data())
def test_the_boot_is_over_with_an_enders_last_segment(counts: dict[str, int], data: st.DataObject) -> None:
    ender = data.draw(st.sampled_from(sorted(counts)))
    cut = list(interleavings(counts, {ender}))
    # Each is a whole interleaving up to the ender's last letter, and none of these is missing.
    whole = {
        schedule[: max(place for place, name in enumerate(schedule) if name == ender) + 1]
        for schedule in interleavings(counts)
    }
    assert set(cut) == whole and len(cut) == len(set(cut))


def test_two_activities_of_five_points() -> None:
    counts = {"load": 5, "reboot": 5}
    assert len(list(interleavings(counts))) == 252
    # Those in which the load has something left at the reset differ in what it has done until then.
    assert len(list(interleavings(counts, {"reboot"}))) == 252


@settings(deadline=None)
@given(segments.filter(lambda counts: any(counts.values())))
def test_a_name_says_the_schedule(counts: dict[str, int]) -> None:
    for schedule in interleavings(counts):
        assert parse_schedule(schedule_name(schedule)) == schedule


@pytest.mark.parametrize("text", ["", "load", "load2-reboot", "2", "load2--load1"])
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError, match="is not a schedule"):
        parse_schedule(text)


def test_blocks_and_switches() -> None:
    schedule = parse_schedule("load2-reboot3-load1")
    assert blocks(schedule) == [("load", 2), ("reboot", 3), ("load", 1)]
    assert switches(schedule, {"load": 3, "reboot": 3}) == 1  # reboot was done: leaving it was no choice
    assert switches(schedule, {"load": 3, "reboot": 4}) == 2
