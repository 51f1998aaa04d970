"""The table of activities is one that scenarios can be made of."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.explore.activities import ACTIVITIES, EVERYTHING, FACTS, Cast, independence, set_up
from harness.explore.prune import representatives
from harness.explore.schedules import interleavings, number_of_words
from tests.explore.scripts import PAIRS

VERSIONS = ("6.1.192", "6.12.95", "7.3.4")


@pytest.mark.parametrize("name", ACTIVITIES)
@pytest.mark.parametrize("version", VERSIONS)
def test_points_are_few_and_their_own(name: str, version: str) -> None:
    if name == "refused" and version.startswith("6.1."):
        pytest.skip("6.1 takes the hotplug state when KVM is loaded")
    activity = ACTIVITIES[name]
    beside = [other for other in ACTIVITIES.values() if other is not activity]
    assert all(1 <= len(activity.points_on(version, [beside[0], other])) <= 4 for other in beside[1:])
    points = activity.points_on(version, [ACTIVITIES["unload" if name != "unload" else "load"]])
    assert 1 <= len(points) <= 6
    assert len({(point.function, point.phase) for point in points}) == len(points)
    assert all(point.touches for point in points)
    # What comes last on the way down, or back, can be noticed by anybody.
    assert EVERYTHING in points[-1].touches


def test_what_activities_speak_of_is_there() -> None:
    for activity in ACTIVITIES.values():
        assert set(activity.needs) <= FACTS.keys()
        assert activity.beside.keys() <= ACTIVITIES.keys() - {activity.name}
        for point in activity.points:
            assert point.beside <= ACTIVITIES.keys()


def test_the_steps_before() -> None:
    assert set_up([ACTIVITIES["load"], ACTIVITIES["reboot"]]) == []
    # KVM is there, whatever else is explored.
    assert set_up([ACTIVITIES["offline"], ACTIVITIES["reboot"]]) == FACTS["module"]
    assert set_up([ACTIVITIES["unload"], ACTIVITIES["vm"]]) == FACTS["lazy module"]
    assert set_up([ACTIVITIES["close"], ACTIVITIES["online"]]) == [
        *FACTS["lazy module"],
        *FACTS["vm"],
        *FACTS["cpu 2 offline"],
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["load"], "two or three different activities"),
        (["load", "load"], "two or three different activities"),
        (["load", "vm", "close", "reboot"], "two or three different activities"),
        (["load", "rebot"], "unknown activity 'rebot'"),
        (["kexec", "load", "reboot"], "one activity at most can end the boot"),
    ],
)
def test_what_cannot_be_explored(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Cast.of(names)


def test_shutting_down_devices_is_nothing_to_kvm() -> None:
    cast = Cast.of(["load", "reboot"])
    points = {name: cast[name].points_on("6.12.95", cast.others(name)) for name in cast.names}
    independent = independence(points)
    devices = next(i for i, point in enumerate(points["reboot"], start=1) if point.function == "device_shutdown")
    # The last segment of the load makes /dev/kvm, a device.
    assert [independent(("load", i), ("reboot", devices)) for i in range(1, 6)] == [True] * 4 + [False]
    schedules = list(interleavings({name: len(held) for name, held in points.items()}, cast.enders))
    assert len(set(representatives(schedules, independent).values())) < len(schedules)


@pytest.mark.parametrize("names", [("load", "offline", "reboot"), ("vm", "close", "unload")])
def test_three_are_not_too_many(names: tuple[str, ...]) -> None:
    cast = Cast.of(names)
    counts = {name: len(cast[name].points_on("6.12.95", cast.others(name))) for name in names}
    assert number_of_words(counts) <= 2000


def test_every_pair_has_a_set_up() -> None:
    for names in PAIRS:
        cast = Cast.of(names)
        ids = [step.get("id") for step in set_up(cast.activities)]
        assert len(ids) == len(set(ids))
