"""Orders of steps that cannot work are faults with their line, and nothing boots."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.scenario.expectations import ExitStatus
from harness.scenario.load import build_scenario, to_yaml
from harness.scenario.model import Scenario
from harness.scenario.steps import Hold, Until
from harness.scenario.yaml_file import parse_yaml

RACE = """\
title: reboot -f while the module loads
claims:
  - {id: own, text: it gives up, source: nowhere}
kernels: [debian:6.12]
machine: {cpus: 2}
trace: [register_syscore, kvm_shutdown]
actors:
  loader: {load: kvm_vendor, cpu: 1}
  reboot: {reboot: force, cpu: 0}
points:
  in-window:
    {function: register_syscore, actor: loader, task: sh, cpu: 1, when: {"%di:u32": 2}, hit: 2, kernels: ">=6.1"}
  at-reset: {function: machine_restart, phase: return, vendor: svm}
steps:
  - start: {actor: loader, blocks: true}
  - hold: in-window
    mode: hard
  - sample: held
  - release: in-window
  - start: reboot
  - hold: at-reset
  - until: loader.exit
  - until: {event: "kvm_shutdown.return@each", count: 2}
  - until: {dmesg: "Restarting"}
  - until: {state: {hotplug.1: 0}}
  - release: at-reset
  - until: reset
permutations:
  - [start, hold, sample, release, start-2, hold-2, until, until-2, until-3, until-4, release-2, until-5]
  - [start, hold, release, start-2, hold-2, sample, until, until-2, until-3, until-4, release-2, until-5]
expect:
  - exit: {loader: [OK, EBUSY], reboot: UNFINISHED}
  - order: [in-window, "in-window.released[task=sh]", at-reset.held]
  - never: at-reset.lost
"""


def load(text: str) -> Scenario:
    return build_scenario(parse_yaml(Path("x.yaml"), text))


def line_of(text: str) -> int:
    """The first line of RACE that begins with `text`."""
    return next(n for n, line in enumerate(RACE.splitlines(), 1) if line.strip().startswith(text))


def test_the_words_of_races_load_again_as_the_same() -> None:
    scenario = load(RACE)
    assert load(to_yaml(scenario)) == scenario
    assert scenario.holds["in-window"].mode == "hard" and scenario.holds["at-reset"].mode == "soft"
    first = scenario.expect[0]
    assert isinstance(first, ExitStatus) and first.steps == {"loader": ["OK", "EBUSY"], "reboot": ["UNFINISHED"]}
    untils = [step for step in scenario.steps if isinstance(step, Until)]
    assert [step.actor for step in untils] == ["loader", "", "", "", ""]
    assert [step.title for step in untils[:2]] == ["until loader.exit", "until kvm_shutdown.return@each"]


def test_each_permutation_is_a_scenario_of_its_own() -> None:
    scenario = load(RACE)
    one, two = scenario.variants()
    assert (one.name, two.name) == ("x#1", "x#2")
    assert [step.id for step in two.steps] == scenario.permutations[1]
    assert load(to_yaml(two)).steps == two.steps
    assert load(RACE[: RACE.index("permutations:")] + RACE[RACE.index("expect:") :]).variants()[0].name == "x"


def test_a_point_that_a_kernel_does_not_have_has_no_hold_and_no_release() -> None:
    scenario = load(RACE)
    assert list(scenario.points_on("6.12.95", "vmx")) == ["in-window"]
    assert [step.point for step in scenario.steps_on("6.12.95", "vmx") if isinstance(step, Hold)] == ["in-window"]
    assert list(scenario.points_on("5.10", "svm")) == ["at-reset"]
    assert len(scenario.steps_on("6.12.95")) == len(scenario.steps)


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        # What would wait for itself
        ("  - sample: held", "  - until: loader.exit", "- sample: held", "it cannot come to its end"),
        ("  - sample: held", "  - reboot: force", "- sample: held", "takes no IPI: a reboot would wait for it"),
        ("  - sample: held", "  - start: reboot\n  - until: reset", "- release: in-window", "takes no IPI"),
        ("  - sample: held", "  - offline: 1", "- sample: held", "CPU 1 is stopped at 'in-window' then"),
        # What comes too early, too late or twice
        ("  - start: reboot", "  - hold: in-window\n  - start: reboot", "- start: reboot", "is held twice"),
        ("  - start: reboot", "  - release: in-window\n  - start: reboot", "- start: reboot", "is released twice"),
        ("  - start: reboot", "  - release: at-reset\n  - start: reboot", "- start: reboot", "no step before"),
        (
            "  - start: {actor: loader, blocks: true}\n  - hold: in-window\n    mode: hard\n",
            "  - {hold: in-window, mode: hard}\n  - start: {actor: loader, blocks: true}\n",
            "- start: {actor",
            "actor 'loader' has not been started",
        ),
        (
            "function: machine_restart",
            "function: machine_restart, actor: loader",
            "- until: loader",
            "come to its end",
        ),
        # Names
        ("actor: loader, task", "actor: lader, task", "in-window:", "there is no actor 'lader'"),
        ("task: sh, cpu: 1", "task: sh, cpu: 2", "in-window:", "there is no CPU 2"),
        ("phase: return", "phase: entry", "at-reset:", "Input should be 'call' or 'return'"),
        ("mode: hard", "mode: harder", "mode: hard", "Input should be 'soft', 'busy' or 'hard'"),
        ("trace: [register_syscore,", "trace: [register_syscore, at-reset,", "at-reset:", "name of a traced event"),
        ("kvm_shutdown.return@each", "kvm_shutdwn.return", "- until: {event", "no traced event 'kvm_shutdwn'"),
        ("kvm_shutdown.return@each", "kvm_shutdown.held", "- until: {event", "kvm_shutdown is no point"),
        ("kvm_shutdown.return@each", "laoder.end", "- until: {event", "no step 'laoder'"),
        ("count: 2", "count: 0", "- until: {event", "greater than or equal to 1"),
        ('{dmesg: "Restarting"}', '{dmesg: "("}', "- until: {dmesg", "is not a regular expression"),
        ('{dmesg: "Restarting"}', '{dmesg: "x", what: reset}', "- until: {dmesg", "wait for one of"),
        ("until: reset", "until: rest", "- until: reset", "cannot wait for 'rest'"),
        ("at-reset.lost", "at-reset.call", "- never", "at-reset is a point, which is held"),
        ("[task=sh]", "[text=sh]", "- order", "no argument in in-window.released[text=sh]: 'text'"),
        # Outcomes
        ("reboot: UNFINISHED", "sample: HUNG", "- exit", "only an actor can be HUNG"),
        ("[OK, EBUSY]", "[OK, HUNG]", "- exit", "is waited for: it cannot be HUNG"),
        ("[OK, EBUSY]", "[]", "- exit", "at least 1 item"),
        ("[OK, EBUSY]", "[OK, EBUZY]", "- exit", "'EBUZY' is not an errno name"),
        # Permutations
        ("[start, hold, sample, release", "[start, hold, release", "- [start, hold, sample", "sample is missing"),
        ("[start, hold, sample", "[start, start, hold, sample", "- [start, hold, sample", "no further step 'start'"),
        ("[start, hold, sample", "[hold, start, sample", "- [start, hold, sample", "in this order, at 'hold': actor"),
    ],
)
def test_what_cannot_work_is_named_with_its_line(old: str, new: str, line: str, what: str) -> None:
    assert old in RACE
    with pytest.raises(ScenarioError) as caught:
        load(RACE.replace(old, new, 1))
    assert what in str(caught.value)
    assert f"x.yaml:{line_of(line)}: " in str(caught.value)


def test_a_soft_hold_and_a_forced_reset_are_no_deadlock() -> None:
    load(RACE.replace("    mode: hard\n", "").replace("  - sample: held", "  - {reboot: force, id: sample}"))
    forced = RACE.replace("{cpus: 2}", "{cpus: 2, cmdline: reboot=f}")
    load(forced.replace("  - sample: held", "  - {reboot: force, id: sample}"))


def test_a_vm_goes_on_after_its_actor() -> None:
    awaited = RACE.replace("  - sample: held", "  - {until: loader.exit, id: sample}").replace(
        "  - until: loader.exit\n", "  - {sample: x, id: until-5}\n"
    )
    load(awaited.replace("loader: {load: kvm_vendor, cpu: 1}", "loader: {vm: 1}"))
    with pytest.raises(ScenarioError, match="cannot come to its end"):
        load(awaited)
