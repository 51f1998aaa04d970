"""Kernels by the names that tables have for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ScenarioError, UsageError
from harness.kernels import BuildOptions
from harness.mutants.mutant import MUTANTS
from harness.mutants.named import kernel_of, named_kernel
from harness.scenario.load import load_scenario

ENTRY = MUTANTS / "6.12" / "check-at-entry.patch"


@pytest.mark.parametrize("spec", ["debian:6.12", "debian-source:7.3+tdx", "git:/home/me/linux@v6.18"])
def test_a_spec_is_itself(spec: str) -> None:
    options = BuildOptions(config_fragments=("lockdep",))
    assert named_kernel(spec, options) == (spec, options)


def test_of_a_packaged_kernel_the_modules_are_rebuilt() -> None:
    assert named_kernel("debian:6.12 +check-at-entry") == ("debian:6.12", BuildOptions((ENTRY,), modules_only="kvm"))


def test_a_mutant_of_a_version_is_one_of_its_source_with_any_fragments() -> None:
    spec = "debian-source:6.12+tdx+lockdep"
    assert named_kernel(f"{spec} +check-at-entry") == (spec, BuildOptions((ENTRY,)))


def test_patches_of_the_user_come_on_top() -> None:
    spec, options = named_kernel("debian:6.12 +check-at-entry +cpuhp-nocalls", BuildOptions((Path("mine.patch"),)))
    assert spec == "debian:6.12"
    assert [patch.stem for patch in options.patches] == ["check-at-entry", "cpuhp-nocalls", "mine"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "debian:6.12 +check-at-entri",
            "no mutant 'check-at-entri' of debian:6.12\n  try: did you mean 'check-at-entry'",
        ),
        # TDX's mutants are of a kernel with TDX, which debian:7.3 is not.
        ("debian:7.3 +seamcall-before-vmxon", "no mutant 'seamcall-before-vmxon' of debian:7.3"),
        ("debian:5.10 +check-at-entry", "takes patches of your own"),
        ("nonsense +check-at-entry", "unknown kernel source 'nonsense'"),
        ("debian:6.12 +", "no mutant '' of debian:6.12"),
    ],
)
def test_a_mutant_that_there_is_not(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("+", r"\+")):
        named_kernel(name)


def test_one_of_a_scenario_is_refused_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        """\
title: t
claims: [{id: own, text: t, source: s}]
kernels:
  - debian:6.12
  - debian:6.12 +check-at-exit
steps: [load: kvm_vendor]
expect: [virt: {at: reset, on: none}]
"""
    )
    scenario = load_scenario(path)
    with pytest.raises(ScenarioError, match=r"s\.yaml:5: the project has no mutant 'check-at-exit'"):
        kernel_of(scenario, "debian:6.12 +check-at-exit")
    with pytest.raises(UsageError) as raised:
        kernel_of(scenario, "debian:6.12 +check-at-exits")
    assert not isinstance(raised.value, ScenarioError)
