"""Where the functions of a scenario live, in the modules of a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ScenarioError
from harness.machine.engine import by_name
from harness.run.requirements import kernel_probes
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
