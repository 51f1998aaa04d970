"""What a run's result and folder say of its schedule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import Exit
from harness.explore.ran import Breach, Ran, ran, read_results
from harness.explore.schedules import parse_schedule
from harness.judge.verdict import ClaimVerdict, Finding, Found, Judgement, Verdict
from harness.report.result import RunResult
from harness.scenario.expectations import Virt
from harness.scenario.model import Claim, ClaimUse

SCHEDULE = parse_schedule("load2-reboot3-load1")
AIMS = ("load-2", "load-3", "reboot-2", "reboot-3", "reboot-4", "load-4")
SEGMENTS = {"load": 5, "reboot": 5}
ON = Found(Finding.FAILED, "virtualization on at reset: CPU 0", (), Virt(at="reset", on="none"))
OOPS = Found(Finding.FAILED, "Oops: 0000 at 0xffffffffc0123456")
UNSEEN = Found(Finding.UNSEEN, "sample 'reset' was not taken")


def result(
    folder: Path,
    verdict: Verdict,
    *findings: Found,
    missed: dict[str, Any] | None = None,
    held: tuple[str, ...] = (),
    fault: str = "",
) -> RunResult:
    meta = {"missed": missed, "holds": [{"point": point} for point in held]} if missed else {}
    (folder / "run.json").write_text(json.dumps(meta))
    uses = [ClaimUse(claim=Claim(id=id, text="t", source="s")) for id in ("off", "outcomes")]
    claims = tuple(ClaimVerdict(use, verdict, findings) for use in uses)
    return RunResult("s", "t", "debian:6.12", "6.12", "tcg-vmx", folder, 1.5, Judgement(claims), fault)


def seen(made: RunResult) -> Ran:
    return ran(SCHEDULE, made, AIMS, SEGMENTS)


def missed(why: str, point: str, detail: str = "", **sleeping: str) -> dict[str, Any]:
    return {"point": point, "why": why, "detail": detail, "sleeping": sleeping}


def test_all_was_as_it_must_be(tmp_path: Path) -> None:
    found = seen(result(tmp_path, Verdict.CONFIRMED))
    assert (found.how, found.begun, found.breaches) == ("held", SCHEDULE, ())


def test_what_is_broken_has_the_claim_and_what_the_run_is_accused_of_has_none(tmp_path: Path) -> None:
    found = seen(result(tmp_path, Verdict.VIOLATED, ON, OOPS))
    assert found.how == "broken"
    assert [breach.claim for breach in found.breaches] == ["off", "", "outcomes"]
    # An address is not what makes two oopses two.
    assert Breach("", "Oops: … at …") in found.kinds


def test_who_was_warned_does_not_make_two_warnings_two() -> None:
    text = "WARNING: CPU: {} PID: {} at arch/x86/kernel/apic/ipi.c:70"
    breaches = [Breach("", text.format(*who)) for who in ((1, 18), (2, 9))]
    (one,), (other,) = (Ran(SCHEDULE, "broken", 1.0, "/r", 6, "", (breach,)).kinds for breach in breaches)
    assert one == other and "ipi.c:70" in one.text


@pytest.mark.parametrize(
    ("why", "point", "detail", "how", "begun", "position"),
    [
        ("exited", "load-4", "EBUSY", "strayed", "load2-reboot3-load1", 6),
        ("elsewhere", "load-3", "load-5", "strayed", "load2", 5),
        ("running", "reboot-3", "", "unseen", "load2-reboot2", 0),
    ],
)
def test_a_hold_that_nobody_came_to(
    tmp_path: Path, why: str, point: str, detail: str, how: str, begun: str, position: int
) -> None:
    made = result(tmp_path, Verdict.NOT_EXERCISED, UNSEEN, missed=missed(why, point, detail), fault="nobody came")
    found = seen(made)
    assert (found.how, found.begun, found.position) == (how, parse_schedule(begun), position)
    assert found.why == "nobody came"


@pytest.mark.parametrize(
    ("point", "sleeping", "how", "begun"),
    [
        ("reboot-3", {"reboot": "mutex_lock+0x1"}, "blocked", "load2-reboot2"),
        ("load-2", {"load": "mutex_lock+0x1"}, "blocked", "load1"),
        # Somebody whose worker or hotplug thread is held sleeps, and is in nobody's way.
        ("load-2", {"reboot": "cpu_down_maps_locked+0x1"}, "unseen", "load1"),
        ("load-2", {"load": "__flush_work+0x1"}, "unseen", "load1"),
        ("load-2", {"load": "__flush_work+0x1", "": "percpu_rwsem_wait+0x1"}, "blocked", "load1"),
    ],
)
def test_who_sleeps(tmp_path: Path, point: str, sleeping: dict[str, str], how: str, begun: str) -> None:
    slept = missed("asleep", point, **sleeping)
    found = seen(
        result(tmp_path, Verdict.NOT_EXERCISED, missed=slept, held=("load-1", "reboot-1"), fault="nobody came")
    )
    assert (found.how, found.begun) == (how, parse_schedule(begun))
    assert how != "blocked" or found.why in sleeping.values()


def test_who_is_held_at_a_point_of_another_is_not_blocked(tmp_path: Path) -> None:
    slept = missed("asleep", "load-2", load="wait_for_completion+0x1")
    held = ("load-1", "reboot-1", "reboot-3")
    found = seen(result(tmp_path, Verdict.NOT_EXERCISED, missed=slept, held=held))
    assert found.how == "unseen" and "reboot-3" in found.why


@pytest.mark.parametrize(("why", "detail"), [("running", ""), ("elsewhere", "load-2"), ("asleep", "")])
def test_a_first_point_that_is_missed_says_nothing_of_any_letter(tmp_path: Path, why: str, detail: str) -> None:
    gone = missed(why, "load-1", detail, load="mutex_lock+0x1")
    found = seen(result(tmp_path, Verdict.NOT_EXERCISED, UNSEEN, missed=gone, fault="nobody came"))
    assert (found.how, found.length, found.why) == ("unseen", 0, "nobody came")


def test_a_deadlock_that_a_hold_was_first_to_notice_is_no_blocked_schedule(tmp_path: Path) -> None:
    hung = Found(Finding.FAILED, "step 'hold-3' did not come back: a task of the guest hangs in the kernel")
    assert seen(result(tmp_path, Verdict.VIOLATED, hung)).how == "broken"


def test_the_harnesss_own_failure(tmp_path: Path) -> None:
    made = result(tmp_path, Verdict.HARNESS_FAULT, fault="QEMU died")
    found = seen(made)
    assert made.exit is Exit.HARNESS_FAULT and (found.how, found.why) == ("fault", "QEMU died")


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    made = [Ran(SCHEDULE, "broken", 1.0, "/r", 6, "", (Breach("off", "on"),)), Ran(("load",), "held", 1.0, "/q", 1)]
    path = tmp_path / "results.jsonl"
    assert read_results(path) == []
    path.write_text("".join(json.dumps(one.to_json()) + "\n" for one in made))
    assert read_results(path) == made
