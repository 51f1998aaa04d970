"""What is left of an exploration, by what is in its folder; and what it reports."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.errors import Exit, UsageError
from harness.explore.activities import ACTIVITIES
from harness.explore.campaign import RESULTS, Campaign
from harness.explore.plan import Plan, load_recordings, save_recordings
from harness.explore.points import Recording
from harness.explore.ran import Breach, Ran
from harness.explore.report import discoveries, exit_of, print_exploration, to_json
from harness.explore.schedules import Schedule, parse_schedule, schedule_name
from harness.machine.engine import by_name
from harness.machine.toolchain import Qemu
from tests.explore.scripts import script

PLAN = Plan(("load", "reboot"), "debian:6.12", "tcg-vmx")
ON = Breach("off-at-the-end", "virtualization on at reset: CPU 0")


def campaign(folder: Path, *results: Ran, plan: Plan = PLAN) -> Campaign:
    """One whose activities come to all their points, with these results in its folder."""
    lines = "".join(json.dumps(result.to_json()) + "\n" for result in results)
    (folder / RESULTS).write_text(lines)
    made = Campaign.in_folder(folder, plan, by_name("tcg-vmx", "AuthenticAMD"), Qemu(("qemu",), "11.1.3", "test"))
    # Found out by running a guest otherwise.
    made.__dict__["script"] = script(plan.activities)
    points = made.script.points
    made.__dict__["recordings"] = {name: Recording(tuple(points[name]), ()) for name in plan.activities}
    return made


def came(schedule: str, how: str, why: str = "", *breaches: Breach, length: int | None = None) -> Ran:
    parsed = parse_schedule(schedule)
    return Ran(parsed, how, 1.0, "/run", len(parsed) if length is None else length, why, breaches)  # type: ignore[arg-type]


def names(schedules: list[Schedule]) -> list[str]:
    return [schedule_name(schedule) for schedule in schedules]


def test_the_simplest_come_first(tmp_path: Path) -> None:
    left = names(campaign(tmp_path).left())
    assert left[0] == "reboot5" and left[1] == "load5-reboot5"
    assert len(left) == 141 and len(campaign(tmp_path).schedules) == 252


def test_all_means_all(tmp_path: Path) -> None:
    plan = Plan(PLAN.activities, PLAN.kernel, PLAN.engine, every=True)
    assert len(campaign(tmp_path, plan=plan).left()) == 252


def test_what_was_run_is_not_run_again(tmp_path: Path) -> None:
    made = campaign(tmp_path, came("reboot5", "held"), came("load1-reboot5", "broken", "", ON))
    assert not {"reboot5", "load1-reboot5"} & set(names(made.left()))


def test_a_blocked_schedule_makes_others_impossible(tmp_path: Path) -> None:
    before = campaign(tmp_path).left()
    made = campaign(tmp_path, came("load3-reboot5", "blocked", "waits", length=6))
    gone = set(before) - set(made.left()) - made.results.keys()
    # In each of them the reboot would go on from its third point while the load stands at its fourth.
    assert gone and all(
        any(made.lessons.positions(one[:i]) == {"load": 4, "reboot": 3} and one[i] == "reboot" for i in range(9))
        for one in gone
    )
    assert {made.pruned()[schedule].why for schedule in gone} == {"impossible"}


def test_a_result_is_learnt_from_as_soon_as_it_is_kept(tmp_path: Path) -> None:
    blocked = came("load3-reboot5", "blocked", "waits", length=6)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    made, other = campaign(tmp_path / "one"), campaign(tmp_path / "other", blocked)
    assert set(made.left()) > set(other.left())
    made._keep(blocked)
    assert made.left() == other.left()


def test_what_is_left_of_an_early_end_is_run(tmp_path: Path) -> None:
    strayed = came("reboot3-load5-reboot2", "strayed", "EBUSY", length=6)
    made = campaign(tmp_path, replace(strayed, position=6))
    assert "reboot3-load3-reboot2" in names(made.left())
    assert parse_schedule("reboot3-load5-reboot2") not in made.left()


def test_discoveries_are_grouped_and_the_simplest_is_shown(tmp_path: Path) -> None:
    made = campaign(
        tmp_path,
        came("load2-reboot4-load3-reboot1", "broken", "", ON),
        came("load1-reboot5", "broken", "", ON, Breach("", "WARNING at kvm_main.c")),
        came("reboot5", "held"),
    )
    found = discoveries(made)
    assert [(one.breach.claim, len(one.schedules)) for one in found] == [("off-at-the-end", 2), ("", 1)]
    assert schedule_name(found[0].schedules[0].schedule) == "load1-reboot5"
    assert exit_of(made) is Exit.VIOLATED
    text = io.StringIO()
    print_exploration(Console(file=text, width=200), made, found)
    assert "load up to __cpuhp_setup_state, reboot to the reset" in text.getvalue()
    assert "111 not run, equivalent" in text.getvalue()
    document = to_json(made, found)
    assert json.loads(json.dumps(document))["found"][0]["schedules"] == [
        "load1-reboot5",
        "load2-reboot4-load3-reboot1",
    ]


def test_what_breaks_without_the_patch_too_is_known(tmp_path: Path) -> None:
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    PLAN.save(tmp_path / "before")
    campaign(tmp_path / "before", came("load2-reboot5", "broken", "", ON))
    plan = Plan(PLAN.activities, "debian:6.12 +mutant", "tcg-vmx", baseline=str(tmp_path / "before"))
    other = Breach("disabled-once", "vmxoff on CPU 1 happened")
    made = campaign(tmp_path / "after", came("load3-reboot5", "broken", "", ON), plan=plan)
    assert discoveries(made) == [] and exit_of(made) is Exit.CONFIRMED
    made = campaign(tmp_path / "after", came("load3-reboot5", "broken", "", ON, other), plan=plan)
    assert [one.breach for one in discoveries(made)] == [other] and exit_of(made) is Exit.VIOLATED


def test_a_baseline_of_something_else(tmp_path: Path) -> None:
    Plan(("vm", "reboot"), "debian:6.12", "tcg-vmx").save(tmp_path)
    plan = Plan(PLAN.activities, PLAN.kernel, PLAN.engine, baseline=str(tmp_path))
    with pytest.raises(UsageError, match="explores vm and reboot"):
        _ = campaign(tmp_path, plan=plan).known


@pytest.mark.parametrize(("how", "code"), [("held", 0), ("blocked", 0), ("strayed", 0), ("unseen", 4), ("fault", 3)])
def test_exit_status(tmp_path: Path, how: str, code: int) -> None:
    assert exit_of(campaign(tmp_path, came("reboot5", how))) == code


def test_a_plan_comes_back_from_its_folder(tmp_path: Path) -> None:
    plan = Plan(("load", "reboot"), "debian:6.12 +x", "tcg-vmx", ("/p",), ("load=kvm_init",), True, "/b")
    plan.save(tmp_path)
    assert Plan.load(tmp_path) == plan
    assert plan.command == (
        'harness explore load reboot --kernel "debian:6.12 +x" --patch /p --points load=kvm_init --baseline /b --all'
    )
    with pytest.raises(UsageError, match="is not the folder of an exploration"):
        Plan.load(tmp_path / "none")


def test_points_that_are_given(tmp_path: Path) -> None:
    plan = Plan(("load", "reboot"), "debian:6.12", "tcg-vmx", points=("load=kvm_init",))
    assert [point.text for point in plan.wanted("6.12.95")["load"]] == ["kvm_init"]
    with pytest.raises(UsageError, match="speaks of vm, which is not explored"):
        Plan(("load", "reboot"), "debian:6.12", "tcg-vmx", points=("vm=kvm_init",)).wanted("6.12.95")


def test_recordings_come_back_with_what_is_known_of_their_points(tmp_path: Path) -> None:
    wanted = {"load": ACTIVITIES["load"].points_on("6.12.95", [ACTIVITIES["reboot"]])}
    recordings = {"load": Recording(wanted["load"][:3], wanted["load"][3:])}
    save_recordings(tmp_path / "points.json", recordings)
    assert load_recordings(tmp_path / "points.json", wanted) == recordings


def test_too_many_interleavings(tmp_path: Path) -> None:
    made = campaign(tmp_path)
    point = made.script.points["load"][0]
    made.__dict__["script"] = replace(made.script, points={"load": [point] * 8, "reboot": [point] * 8})
    with pytest.raises(UsageError, match="12870 interleavings are too many"):
        made.left()
