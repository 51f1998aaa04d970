"""What need not be run: it is equivalent, impossible, or over."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.explore.prune import Independence, Lessons, Pruned, Segment, canonical, representatives, segments_of
from harness.explore.schedules import Schedule, interleavings, parse_schedule

ALL = [(name, number) for name in "abc" for number in (1, 2, 3)]
pairs = st.frozensets(st.tuples(st.sampled_from(ALL), st.sampled_from(ALL)))


def independence(of: frozenset[tuple[Segment, Segment]]) -> Independence:
    return lambda one, other: one[0] != other[0] and ((one, other) in of or (other, one) in of)


def neighbours(schedule: Schedule, independent: Independence) -> set[Schedule]:
    """The schedules with two neighbouring segments swapped that may be."""
    segments = segments_of(schedule)
    return {
        (*schedule[:i], schedule[i + 1], schedule[i], *schedule[i + 2 :])
        for i in range(len(schedule) - 1)
        if segments[i][0] != segments[i + 1][0] and independent(segments[i], segments[i + 1])
    }


def equivalence_class(schedule: Schedule, independent: Independence) -> set[Schedule]:
    """By the definition: all that can be had by swapping neighbours."""
    found, fresh = {schedule}, {schedule}
    while fresh:
        fresh = {other for one in fresh for other in neighbours(one, independent)} - found
        found |= fresh
    return found


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=7), pairs)
def test_canonical_is_the_first_of_the_class(
    letters: list[str], independent: frozenset[tuple[Segment, Segment]]
) -> None:
    relation = independence(independent)
    schedule = tuple(letters[: 3 * 3])
    assert canonical(schedule, relation) == min(equivalence_class(schedule, relation))


@settings(deadline=None)
@given(pairs)
def test_one_of_each_class_is_run(of: frozenset[tuple[Segment, Segment]]) -> None:
    relation = independence(of)
    schedules = list(interleavings({"a": 3, "b": 3}))
    chosen = representatives(schedules, relation)
    for schedule in schedules:
        assert {chosen[other] for other in equivalence_class(schedule, relation)} == {chosen[schedule]}
        assert chosen[schedule] in equivalence_class(schedule, relation)
    # The first in the order given, so that the simplest is run.
    assert all(schedules.index(one) <= schedules.index(other) for other, one in chosen.items())


def test_nothing_is_equivalent_when_everything_is_shared() -> None:
    schedules = list(interleavings({"a": 2, "b": 2}))
    assert set(representatives(schedules, lambda one, other: False).values()) == set(schedules)


def test_a_blocked_activity_makes_what_begins_like_that_impossible() -> None:
    lessons = Lessons({"load": 3, "offline": 3})
    lessons.blocked(parse_schedule("load1-offline1"), "offline waits for load")
    looked = lessons.look(parse_schedule("load1-offline3-load2"))
    assert looked == Pruned("impossible", "offline waits for load")
    # The same activity from other positions, and others from the same, are not meant.
    assert lessons.look(parse_schedule("load2-offline3-load1")) is None
    assert lessons.look(parse_schedule("load3-offline3")) is None
    assert lessons.look(parse_schedule("offline2-load3-offline1")) is None


def test_where_tasks_stand_decides_and_not_how_they_came_there() -> None:
    lessons = Lessons({"load": 5, "reboot": 5})
    lessons.blocked(parse_schedule("load1-reboot1-load1"), "load waits for reboot")
    assert lessons.look(parse_schedule("reboot1-load3")) == Pruned("impossible", "load waits for reboot")


def test_an_early_end_leaves_the_schedule_without_the_rest() -> None:
    lessons = Lessons({"load": 5, "reboot": 5})
    lessons.went(parse_schedule("reboot2-load2"), 6, "load ended with EBUSY")
    looked = lessons.look(parse_schedule("reboot2-load3-reboot1-load2-reboot2"))
    assert looked == Pruned("shorter", "load ended with EBUSY", parse_schedule("reboot2-load2-reboot3"))
    # What is left is run, and no prefix of it is known to end anything else.
    assert looked is not None and looked.instead is not None and lessons.look(looked.instead) is None
    assert lessons.positions(parse_schedule("reboot2-load2")) == {"load": 6, "reboot": 3}
    assert lessons.positions(parse_schedule("load2-reboot2")) == {"load": 3, "reboot": 3}


def test_who_leaves_out_points_needs_fewer_letters() -> None:
    lessons = Lessons({"load": 5, "reboot": 5})
    lessons.went(parse_schedule("reboot3-load2"), 5, "load came to 5")
    # The third letter of the load is then its last.
    assert lessons.positions(parse_schedule("reboot3-load3"))["load"] == 6
    assert lessons.look(parse_schedule("reboot3-load3-reboot2")) is None
    looked = lessons.look(parse_schedule("reboot3-load2-reboot1-load3-reboot1"))
    assert looked == Pruned("shorter", "load came to 5", parse_schedule("reboot3-load2-reboot1-load1-reboot1"))


def test_where_somebody_is_blocked_is_told_by_where_they_really_stand() -> None:
    lessons = Lessons({"load": 5, "reboot": 5})
    lessons.went(parse_schedule("load1"), 4, "load came to 4")
    lessons.blocked(parse_schedule("load1-reboot1"), "reboot waits for load")
    assert lessons.look(parse_schedule("load1-reboot5-load2")) == Pruned("impossible", "reboot waits for load")
    assert lessons.look(parse_schedule("load2-reboot5-load1")) is None


@settings(deadline=None)
@given(st.sampled_from(list(interleavings({"a": 3, "b": 3}))), st.integers(1, 6))
def test_one_lesson_never_says_anything_of_what_differs_before_it(schedule: Schedule, length: int) -> None:
    lessons = Lessons({"a": 3, "b": 3})
    lessons.went(schedule[:length], 4, "ended")
    for other in interleavings({"a": 3, "b": 3}):
        if other[:length] != schedule[:length]:
            assert lessons.look(other) is None
