"""A schedule's scenario is one that loads, does what the schedule says, and can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.explore.activities import ACTIVITIES
from harness.explore.prune import Lessons
from harness.explore.scenario import recording_text
from harness.explore.schedules import interleavings, parse_schedule
from harness.scenario.expectations import ExitStatus, Virt
from harness.scenario.load import to_yaml
from harness.scenario.steps import Hold, Release, Sample, Start, Until
from tests.explore.scripts import PAIRS, as_alone, loaded, script

RACE = "load2-reboot4-load2-reboot1"


def words(text: str) -> list[str]:
    """The steps of a scenario, in short."""
    short = []
    for step in loaded(text).steps:
        if isinstance(step, (Hold, Release)):
            short.append(f"{step.kind} {step.point}")
        elif isinstance(step, Start):
            short.append(f"start {step.actor}")
        elif isinstance(step, Until):
            short.append(f"until {step.what}")
        else:
            short.append(step.id)
    return short


def test_the_steps_are_the_schedule() -> None:
    assert words(script(["load", "reboot"]).text(parse_schedule(RACE), as_alone)) == [
        *("start load", "hold load-1", "start reboot", "hold reboot-1"),
        *("release load-1", "hold load-2", "release load-2", "hold load-3"),
        *("release reboot-1", "hold reboot-2", "release reboot-2", "hold reboot-3"),
        *("release reboot-3", "hold reboot-4", "release reboot-4", "hold reboot-5"),
        *("release load-3", "hold load-4", "release load-4", "hold load-5"),
        *("release reboot-5", "until reset"),
    ]


def test_a_title_says_where_everybody_goes() -> None:
    made = script(["load", "reboot"])
    assert loaded(made.text(parse_schedule(RACE), as_alone)).title == made.title(parse_schedule(RACE), as_alone)
    assert (
        made.title(parse_schedule("load1-reboot5"), as_alone) == "load up to __cpuhp_setup_state, reboot to the reset"
    )
    assert made.title(parse_schedule("load5-reboot5"), as_alone) == "load to its end, reboot to the reset"


def test_what_the_reset_catches_is_meant() -> None:
    scenario = loaded(script(["load", "reboot"]).text(parse_schedule(RACE), as_alone))
    exits = next(expectation for expectation in scenario.expect if isinstance(expectation, ExitStatus))
    assert exits.steps == {"load": ["UNFINISHED"], "reboot": ["OK"]}
    virt = [(e.at, e.on, e.claim) for e in scenario.expect if isinstance(e, Virt)]
    assert virt == [("reset", "none", "off-when-cut-short")]
    scenario = loaded(script(["load", "reboot"]).text(parse_schedule("load5-reboot5"), as_alone))
    assert [e.claim for e in scenario.expect if isinstance(e, Virt)] == ["off-at-the-end"]


def test_an_error_needs_a_reason_that_had_begun() -> None:
    made = script(["load", "reboot"])

    def outcomes(schedule: str) -> list[str]:
        scenario = loaded(made.text(parse_schedule(schedule), as_alone))
        return next(e for e in scenario.expect if isinstance(e, ExitStatus)).steps["load"]

    assert outcomes("load5-reboot5") == ["OK"]
    assert outcomes("load4-reboot1-load1-reboot4") == ["OK", "EBUSY"]
    # It is not known what comes before points that somebody gave.
    made = replace(made, given=frozenset({"reboot"}))
    assert outcomes("load5-reboot5") == ["OK", "EBUSY"]


def test_who_ends_early_is_waited_for() -> None:
    schedule = parse_schedule("reboot3-load4-reboot2")
    lessons = Lessons({"load": 5, "reboot": 5})
    lessons.went(schedule[:7], 6, "load ended")
    text = script(["load", "reboot"]).text(schedule, lessons.positions)
    assert words(text)[-6:] == [
        *("release load-4", "until load.exit"),
        *("release reboot-4", "hold reboot-5", "release reboot-5", "until reset"),
    ]


def test_points_that_are_left_out_are_not_there() -> None:
    schedule = parse_schedule("reboot3-load3-reboot2")
    lessons = Lessons({"load": 5, "reboot": 5})
    lessons.went(schedule[:5], 5, "load came to 5")
    made = script(["load", "reboot"])
    scenario = loaded(made.text(schedule, lessons.positions))
    assert [name for name in scenario.points if name.startswith("load")] == ["load-1", "load-2", "load-5"]
    aims = ("reboot-2", "reboot-3", "reboot-4", "load-2", "load-5", "", "reboot-5", "")
    assert made.aims(schedule, lessons.positions) == aims


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_every_pair_makes_scenarios_that_load(names: tuple[str, str]) -> None:
    made = script(names)
    schedules = list(interleavings(made.segments(), made.cast.enders))
    scenario = loaded(made.text(schedules[len(schedules) // 3], as_alone))
    samples = [step.name for step in scenario.steps if isinstance(step, Sample)]
    assert samples[:1] == (["jump"] if made.cast.jumps else [] if made.cast.enders else ["after"])


def test_a_kexec_is_looked_at_before_it_stops_the_other_cpus() -> None:
    scenario = loaded(script(["load", "kexec"]).text(parse_schedule("load2-kexec5"), as_alone))
    assert [step.title for step in scenario.steps][-3:] == ["sample jump", "release kexec-5", "until kexec.exit"]
    assert [(e.at, e.claim) for e in scenario.expect if isinstance(e, Virt)] == [("jump", "off-when-cut-short")]
    assert scenario.machine.memory == 1024


def test_who_stands_in_the_way_need_not_have_begun() -> None:
    scenario = loaded(script(["unload", "close"]).text(parse_schedule("unload5-close4"), as_alone))
    outcomes = next(e for e in scenario.expect if isinstance(e, ExitStatus)).steps
    assert (outcomes["unload"], outcomes["close"]) == (["OK", "EAGAIN"], ["OK"])


@pytest.mark.parametrize("platform", [True, False])
@pytest.mark.parametrize("version", ["6.1.192", "6.12.95", "7.3.4"])
@pytest.mark.parametrize("names", [("load", "reboot"), ("vm", "close"), ("load", "unload")], ids="-".join)
def test_scenarios_for_every_kernel(names: tuple[str, str], version: str, platform: bool) -> None:
    made = script(names, version, platform)
    last = list(interleavings(made.segments(), made.cast.enders))[-1]
    scenario = loaded(made.text(last, as_alone))
    assert loaded(to_yaml(scenario)).steps == scenario.steps


def test_three_activities() -> None:
    made = script(["load", "offline", "reboot"])
    scenario = loaded(made.text(parse_schedule("load1-offline2-reboot3"), as_alone))
    assert scenario.title == "load up to register_syscore, offline to its end, reboot to the reset"


@pytest.mark.parametrize("name", ACTIVITIES)
def test_an_activity_alone(name: str) -> None:
    activity = ACTIVITIES[name]
    points = activity.points_on("6.12.95", [ACTIVITIES["reboot" if name != "reboot" else "load"]])
    scenario = loaded(recording_text(activity, points, "debian:6.12", True))
    assert {probe.name for probe in scenario.trace} == {point.function for point in points}
    assert not scenario.points
