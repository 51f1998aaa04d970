"""What holds mean for a verdict: what they brought about, and what they did not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.guest.outcome import HUNG, UNFINISHED, Outcome
from harness.judge.judge import judge
from harness.judge.record import Fault, Hold, RunRecord
from harness.judge.verdict import Finding, Verdict
from harness.scenario.kinds import HoldMode
from tests.judge.records import event, only, outcome, record

HEAD = """\
title: t
claims: [{id: c, text: it holds, source: here}]
kernels: [debian:6.12]
machine: {cpus: 2}
trace: [on, off]
actors: {loader: {load: kvm_vendor}}
points: {in-window: {function: f, actor: loader}}
steps:
  - start: loader
  - hold: in-window
  - release: in-window
expect:
"""
HELD = Hold("in-window", "f", "plugin", "soft", 1, "guestctl", 172, "released", (1, 3))
DONE = (outcome("start"), outcome("hold"), outcome("release"), outcome("loader"))
FINE = "  - exit: {loader: OK}\n"

SOFT_LOCKUP = "[ 9.1] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [guestctl:172]"
OTHER_LOCKUP = "[ 9.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:99]"
HUNG_WAITER = "[ 9.1] INFO: task sh:99 blocked for more than 120 seconds."


def run(
    expect: str = FINE, holds: tuple[Hold, ...] = (HELD,), console: str = "", waiting: tuple[int, ...] = ()
) -> RunRecord:
    return record(expect, outcomes=DONE, head=HEAD, holds=holds, console=console, waiting=waiting)


def verdict(run: RunRecord) -> tuple[Verdict, list[str]]:
    claim = only(judge(run).claims)
    return claim.verdict, [found.text for found in claim.findings if found.finding is not Finding.HELD]


def test_a_task_that_was_lost_to_a_reset_makes_the_run_not_exercised() -> None:
    lost = replace(HELD, end="lost")
    found, texts = verdict(run(holds=(lost,)))
    assert found is Verdict.NOT_EXERCISED
    assert texts == ["guestctl-172, held at in-window, was lost to a reset"]


def test_a_task_that_nobody_meant_to_let_go_was_held_to_the_end() -> None:
    never_released = HEAD.replace("  - release: in-window\n", "")
    seen = record(FINE, outcomes=DONE, head=never_released, holds=(replace(HELD, end="lost"),))
    assert verdict(seen) == (Verdict.CONFIRMED, [])


def test_a_loss_that_the_scenario_speaks_of_is_what_was_asked_for() -> None:
    events = [event(5, 1, "in-window", "held"), event(9, 1, "in-window", "lost")]
    lost = replace(run(FINE + "  - order: [in-window, in-window.lost]\n", holds=(replace(HELD, end="lost"),)))
    seen = replace(lost, events=tuple(events), by_platform=frozenset({"in-window"}))
    assert verdict(seen) == (Verdict.CONFIRMED, [])


def test_held_and_released_have_their_place_in_the_order() -> None:
    events = [event(5, 1, "in-window", "held"), event(6, 0, "on"), event(9, 1, "in-window", "released")]
    wanted = "  - order: [in-window.held, on, in-window.released]\n  - never: in-window.lost\n"
    seen = replace(run(FINE + wanted), events=tuple(events), by_platform=frozenset({"in-window"}))
    assert verdict(seen) == (Verdict.CONFIRMED, [])
    late = replace(seen, events=(events[0], events[2], event(10, 0, "on")))
    assert verdict(late)[0] is Verdict.VIOLATED
    assert verdict(replace(seen, events=(events[1],)))[0] is Verdict.NOT_EXERCISED


def test_what_happens_when_everybody_is_let_go_early_is_no_part_of_the_scenario() -> None:
    events = [event(5, 1, "in-window", "held"), event(6, 1, "in-window", "released"), event(7, 1, "on")]
    missed = Fault("MissedHold", 4, "nobody came to point 'later'")
    released = replace(
        run("  - never: on\n"), events=tuple(events), fault=missed, by_platform=frozenset({"in-window"})
    )
    assert verdict(released)[0] is Verdict.VIOLATED  # a step let it go
    by_harness = {name: one for name, one in released.outcomes.items() if name != "release"}
    assert verdict(replace(released, outcomes=by_harness))[0] is Verdict.NOT_EXERCISED
    before = (*events[:1], replace(events[2], seq=5), *events[1:2])
    assert verdict(replace(released, outcomes=by_harness, events=before))[0] is Verdict.VIOLATED
    assert verdict(replace(released, fault=None))[0] is Verdict.VIOLATED


@pytest.mark.parametrize(
    ("console", "waiting", "expected"),
    [
        (f"a\n{SOFT_LOCKUP}\nb\n", (), Verdict.CONFIRMED),  # the held task on the held CPU
        (f"a\nb\nc\n{SOFT_LOCKUP}\n", (), Verdict.VIOLATED),  # when nobody was held any more
        (f"a\n{OTHER_LOCKUP}\nb\n", (), Verdict.VIOLATED),  # another CPU, another task
        (f"a\n{HUNG_WAITER}\nb\n", (99,), Verdict.CONFIRMED),  # seen to wait while the other was held
        (f"a\n{HUNG_WAITER}\nb\n", (), Verdict.VIOLATED),
        ("a\n[ 9.1] WARNING: CPU: 1 PID: 172 at kernel/cpu.c:1 f+0x1/0x2\nb\n", (), Verdict.VIOLATED),
        ("a\n[ 9.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n", (), Verdict.VIOLATED),  # says not whom
    ],
)
def test_a_stall_of_a_hold_accuses_nobody_and_any_other_does(
    console: str, waiting: tuple[int, ...], expected: Verdict
) -> None:
    assert verdict(run(console=console, waiting=waiting))[0] is expected


@pytest.mark.parametrize(
    ("mode", "expected"), [("hard", Verdict.CONFIRMED), ("busy", Verdict.CONFIRMED), ("soft", Verdict.VIOLATED)]
)
def test_who_waits_for_a_cpu_that_is_kept_spins_on_any_other(mode: HoldMode, expected: Verdict) -> None:
    keeping = (replace(HELD, mode=mode),)
    assert verdict(run(holds=keeping, console=f"a\n{OTHER_LOCKUP}\nb\n"))[0] is expected
    assert verdict(run(holds=keeping, console=f"a\nb\nc\n{OTHER_LOCKUP}\n"))[0] is Verdict.VIOLATED
    warning = "a\n[ 9.1] WARNING: CPU: 0 PID: 99 at kernel/cpu.c:1 f+0x1/0x2\nb\n"
    assert verdict(run(holds=keeping, console=warning))[0] is Verdict.VIOLATED


def test_an_rcu_stall_is_the_hold_s_only_if_it_names_nobody_else() -> None:
    begin = "a\n[ 9.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n"
    ours, others, end = (
        "[ 9.1] rcu: \t1-...!: (0 ticks this GP)\n",
        "[ 9.1] rcu: \t0-...!: (0 ticks)\n",
        "[ 9.1]  </TASK>\n",
    )
    longer = replace(HELD, lines=(1, 9))
    assert verdict(run(console=begin + ours + end, holds=(longer,)))[0] is Verdict.CONFIRMED
    assert verdict(run(console=begin + ours + others + end, holds=(longer,)))[0] is Verdict.VIOLATED


def actor(result: str) -> RunRecord:
    stacks = ("task guestctl (172) in state D:", "[<0>] percpu_down_write+0x1/0x2") if result == HUNG else ()
    away = Outcome("loader", "load", 1, result, 9.0, (0, 1), "guestctl-172 in percpu_down_write()", stacks=stacks)
    whole = run("  - never: on\n")
    return replace(whole, outcomes={**whole.outcomes, "loader": away})


def test_a_deadlock_that_is_expected_holds_with_the_stacks_as_evidence() -> None:
    hung = actor(HUNG)
    expected = replace(hung, scenario=run("  - exit: {loader: HUNG}\n").scenario)
    claim = only(judge(expected).claims)
    assert claim.verdict is Verdict.CONFIRMED
    assert claim.findings[0].evidence[1] == "[<0>] percpu_down_write+0x1/0x2"
    wrong = replace(hung, scenario=run("  - exit: {loader: [OK, EBUSY]}\n").scenario)
    assert verdict(wrong) == (
        Verdict.VIOLATED,
        ["loader gave HUNG, not OK or EBUSY (guestctl-172 in percpu_down_write())"],
    )


def test_a_hang_that_nobody_speaks_of_is_the_kernel_s_and_an_actor_that_just_stays_away_is_not() -> None:
    assert verdict(actor(HUNG))[0] is Verdict.VIOLATED
    assert verdict(actor(UNFINISHED))[0] is Verdict.NOT_EXERCISED
