"""Where the functions of a scenario live, in the modules of a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.machine.engine import by_name
from harness.probes.points import ArmedPoint
from harness.run.requirements import armed_points, kernel_probes
from harness.scenario.load import load_scenario
from harness.scenario.model import Scenario
from tests import guests

SCENARIO = """\
title: t
claims: [{id: c, text: it holds, source: here}]
kernels: [debian:6.12]
trace: [FUNCTION]
steps: [{load: kvm_vendor}]
expect: [{exit: {load: OK}}]
"""


def scenario(folder: Path, function: str) -> Scenario:
    path = folder / "t.yaml"
    path.write_text(SCENARIO.replace("FUNCTION", function))
    return load_scenario(path)


@pytest.mark.network
@pytest.mark.parametrize(("engine", "home"), [("tcg-vmx", "kvm_intel"), ("tcg-svm", "kvm_amd")])
def test_a_function_has_one_home(tmp_path: Path, engine: str, home: str) -> None:
    for function, module in (("vendor_enable", home), ("kvm_online_cpu", "kvm"), ("misc_register", "")):
        (probe,) = kernel_probes(scenario(tmp_path, function), guests.kernel(), by_name(engine, ""))
        assert probe.module == module


@pytest.mark.network
def test_a_function_that_two_loaded_modules_have_is_refused(tmp_path: Path) -> None:
    """Calls of the one that is not traced would pass for none."""
    own = scenario(tmp_path, "init_module")
    with pytest.raises(ScenarioError, match=r"t.yaml:4: there is a function init_module in each of kvm, kvm_intel"):
        kernel_probes(own, guests.kernel(), by_name("tcg-vmx", ""))


POINTS = """\
title: t
claims: [{id: c, text: it holds, source: here}]
kernels: [debian:6.12]
actors: {loader: {load: kvm_vendor}}
points:
  registering: {function: register_syscore, actor: loader, task: guestctl, cpu: 1, hit: 2, when: {"%di:u32": 3}}
  enabling: {function: vendor_enable, phase: return, cpu: 0}
  gone: {function: register_emergency_callback, kernels: "<6.12"}
steps:
  - start: loader
  - hold: registering
  - {hold: enabling, mode: busy}
  - hold: gone
expect: [{exit: {loader: OK}}]
"""


@pytest.mark.network
def test_a_point_has_the_kernel_s_name_its_home_and_the_mode_of_its_hold(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(POINTS)
    points = armed_points(load_scenario(path), guests.kernel(), by_name("tcg-vmx", ""))
    assert points == {
        "registering": ArmedPoint(
            "registering", "register_syscore_ops", task="guestctl", cpu=1, hit=2, when=(("%di:u32", 3),)
        ),
        "enabling": ArmedPoint(
            "enabling", "vmx_enable_virtualization_cpu", "kvm_intel", phase="return", mode="busy", cpu=0
        ),
    }


@pytest.mark.network
def test_a_point_at_a_function_of_two_modules_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(POINTS.replace("function: vendor_enable", "function: init_module"))
    with pytest.raises(ScenarioError, match=r"t.yaml:7: there is a function init_module in each of kvm, kvm_intel"):
        armed_points(load_scenario(path), guests.kernel(), by_name("tcg-vmx", ""))
