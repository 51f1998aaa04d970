"""Which scenarios a patch is tried with: measured on the project's own seeded bugs."""

from __future__ import annotations

import functools

import pytest

from harness.kernels.patches import read_patches
from harness.mutants.mutant import MUTANTS, load_mutant
from harness.scenario.load import load_scenario, scenario_files
from harness.scenario.model import Scenario
from harness.series.relevance import choose, interests
from harness.series.touched import Touched, touched


@functools.cache
def scenarios() -> tuple[Scenario, ...]:
    return tuple(map(load_scenario, scenario_files()))


def what(*functions: str, names: tuple[str, ...] = ()) -> Touched:
    return Touched(frozenset({"virt/kvm/kvm_main.c"}), frozenset(functions), frozenset(names))


def test_names_of_every_kernel_count() -> None:
    load = next(one for one in scenarios() if one.name == "load-unload")
    [syscore] = [one for one in interests(load) if one.how == "judges register_syscore"]
    assert syscore.symbols == {"register_syscore_ops", "register_syscore"}
    assert choose([load], what("register_syscore_ops"))[0].why[0] == "judges register_syscore"
    assert choose([load], what("svm_enable_virtualization_cpu"))


def test_a_held_function_comes_first() -> None:
    first = choose(scenarios(), what("device_shutdown"))[0]
    assert "holds a task in device_shutdown" in first.why


def test_those_with_new_claims_come_before_more_of_the_same() -> None:
    chosen = choose(scenarios(), what("kvm_enable_virtualization"))
    few = {use.claim.id for one in chosen[:6] for use in one.scenario.claims}
    heaviest = sorted(chosen, key=lambda one: -one.weight)[:6]
    assert len(few) > len({use.claim.id for one in heaviest for use in one.scenario.claims})


def test_where_nothing_fits_the_standard_set_is_tried_and_says_so() -> None:
    names = {
        one.scenario.name for one in choose(scenarios(), what("kvm_vfio_create")) if "standard set" in one.why[0]
    }
    assert names >= {"load-unload", "hotplug", "suspend", "reboot", "bring-up"}
    assert not any("standard set" in why for one in choose(scenarios(), what("kvm_shutdown")) for why in one.why)


def test_a_name_on_a_changed_line_weighs_less_than_a_changed_function() -> None:
    load = [next(one for one in scenarios() if one.name == "load-unload")]
    [changed], [mentioned] = (
        choose(load, what("kvm_init")),
        choose(load, what("kvm_arch_init_vm", names=("kvm_init",))),
    )
    assert changed.weight == 2 * mentioned.weight
    assert "no scenario is about" not in str(mentioned.why)


@pytest.mark.parametrize(("most", "share"), [(6, 0.85), (100, 0.9)])
def test_most_seeded_bugs_are_in_reach_of_the_first_six(most: int, share: float) -> None:
    """Without a look at their trailers, which say what they break."""
    reached = []
    for path in sorted(MUTANTS.glob("*/*.patch")):
        mutant = load_mutant(path)
        suited = [one for one in scenarios() if mutant.kernels[0] in one.kernels]
        chosen = choose(suited, touched(read_patches([path])))[:most]
        decided = {use.claim.id for one in chosen for use in one.scenario.claims}
        reached.append(bool(decided & set(mutant.claims)))
    assert sum(reached) >= share * len(reached), f"{sum(reached)} of {len(reached)}"


def test_every_scenario_is_in_reach_of_some_function() -> None:
    assert [one.name for one in scenarios() if not interests(one)] == []
