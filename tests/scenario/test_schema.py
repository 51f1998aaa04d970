"""The JSON Schema against every scenario of the project, as the harness and as an editor read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from harness.scenario.load import scenario_files
from harness.scenario.schema import json_schema
from harness.scenario.yaml_file import parse_yaml, read_yaml

VALIDATOR = Draft202012Validator(json_schema())

GOOD = """\
title: all the ways to write something
claims:
  - unwind-reverse-order
  - {id: misc-register-last, known: {debian:6.1: violated}, since: one commit, fixed_by: another}
  - {id: own, text: it loads, source: nowhere}
kernels: [debian:6.12]
machine: {cpus: 2, max_cpus: 4, virt: svm}
trace:
  - kvm_online_cpu
  - cpuhp:cpuhp_enter
  - {function: kvm_shutdown, kernels: 6.12, fetch: {state: "@system_state:u32"}}
actors:
  loader: {load: {module: kvm, params: {enable_virt_at_load: 0}}, cpu: 1, within: 20}
points:
  inside: {function: kvm_online_cpu, actor: loader, hit: 2}
steps:
  - start: loader
    blocks: true
  - hold: {point: inside, mode: hard}
    within: 500ms
  - unload: kvm_vendor
  - unload: {modules: [kvm_vendor, kvm]}
    id: both
  - vm: {}
  - wrmsr: {target: 1, msr: 0xc0000080, set_bits: "0x1000"}
  - suspend: mem
    pm_test: core
expect:
  - exit: {loader: OK, unload: 0}
    claim: own
  - order: [a, b]
    per: cpu
    during: [unload, both]
  - order: {events: [a, "b[ret=0]@each"], during: both}
  - count: {event: a, min: 1}
  - state: {at: x, are: {modules.kvm.refcnt: 1, parameters.kvm.enable_virt_at_load: N}}
"""


def faults(data: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(data)]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", scenario_files(), ids=lambda path: str(path.stem))
def test_scenarios_of_the_project_are_valid(path: Path) -> None:
    assert faults(read_yaml(path).data) == []
    assert faults(yaml.load(path.read_text(), Loader=_EditorLoader)) == []


class _EditorLoader(yaml.SafeLoader):
    """Reads as yaml-language-server does by default: YAML 1.2, where 6.1 is a number and `on` is text."""


_EditorLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def test_every_way_to_write_something_is_valid() -> None:
    assert faults(parse_yaml(Path("x.yaml"), GOOD).data) == []


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        ("title:", "titel:", "$", "'titel' was unexpected"),
        ("{cpus: 2,", "{cpux: 2,", "$.machine", "'cpux' was unexpected"),
        ("max_cpus: 4", "max_cpus: many", "$.machine.max_cpus", "not valid under any of"),
        ("- unwind-reverse-order", "- no-such-claim", "$.claims[0]", "not valid under any of"),
        ("known: {debian:6.1: violated}", "known: {debian:6.1: broken}", "$.claims[1]", "not valid under any of"),
        ("- start: loader", "- strat: loader", "$.steps[0]", "not valid under any of"),
        ("- start: loader", "- start: loader\n    load: kvm", "$.steps[0]", "'load' was unexpected"),
        ("blocks: true", "block: true", "$.steps[0]", "'block' was unexpected"),
        ("mode: hard", "mode: harder", "$.steps[1].hold", "not valid under any of"),
        ("- vm: {}", "- vm: many", "$.steps[4].vm", "not valid under any of"),
        ("target: 1, ", "", "$.steps[5].wrmsr", "'target' is a required property"),
        ("pm_test: core", "pm_test: cores", "$.steps[6].pm_test", "not valid under any of"),
        ("cpu: 1,", "cpu: 1, id: x,", "$.actors.loader", "should not be valid under"),
        ("{load: {module", "{sample: {name", "$.actors.loader", "not valid under any of"),
        ("hit: 2", "hit: 0", "$.points.inside.hit", "less than the minimum"),
        ("  - exit:", "  - exits:", "$.expect[0]", "not valid under any of"),
        ("per: cpu", "per: task", "$.expect[1].per", "'task' is not one of"),
        ("during: [unload, both]", "during: [a, b, c]", "$.expect[1].during", "not valid under any of"),
        ("  - count: {event: a", "  - count: {evnt: a", "$.expect[3].count", "'evnt' was unexpected"),
    ],
)
def test_what_is_wrong_is_named_where_it_is(old: str, new: str, place: str, what: str) -> None:
    assert old in GOOD
    found = faults(parse_yaml(Path("x.yaml"), GOOD.replace(old, new, 1)).data)
    assert any(fault.startswith(f"{place}: ") and what in fault for fault in found), found
