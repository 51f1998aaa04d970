"""Faults in scenario files: each one is named with its line, before anything boots."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import Exit, ScenarioError, UsageError
from harness.platform.config import PlatformConfig
from harness.platform.cpu import CpuConfig
from harness.platform.tdx import FaultRule, ModuleConfig
from harness.scenario.load import build_scenario, load_scenario, reference_claims, to_yaml
from harness.scenario.model import Scenario
from harness.scenario.yaml_file import parse_yaml

GOOD = """\
title: load and unload
claims:
  - {id: own, text: it loads, source: nowhere}
kernels: [debian:6.12]
machine: {cpus: 2}
trace: [kvm_online_cpu, "cpuhp:cpuhp_enter", {function: kvm_shutdown, fetch: {state: "@system_state:u32"}}]
actors:
  loader: {load: kvm_vendor, cpu: 1}
steps:
  - start: loader
  - until: loader.exit
    within: 5s
  - sample: loaded
  - offline: 1
  - unload: [kvm_vendor, kvm]
expect:
  - exit: {loader: OK, unload: EBUSY}
  - order: [kvm_online_cpu.return@each, offline.begin]
  - count: {event: kvm_online_cpu, per: cpu, is: 1}
    during: [offline, unload]
    kernels: ">=6.12"
  - virt: {at: loaded, on: [0, 1]}
    vendor: svm
"""


def load(text: str) -> Scenario:
    return build_scenario(parse_yaml(Path("x.yaml"), text))


def test_good_scenario_resolves_and_loads_again_as_the_same() -> None:
    scenario = load(GOOD)
    assert [step.id for step in scenario.steps] == ["start", "until", "sample", "offline", "unload"]
    assert scenario.actors["loader"].cpu == 1
    assert load(to_yaml(scenario)) == scenario


PLATFORM = GOOD.replace(
    "machine: {cpus: 2}",
    """\
machine:
  cpus: 2
  virt: vmx
  cpu: {model: sapphirerapids, feat_ctl: {1: 1}, vmx: {1: {pause_loop_exiting: false}}, vmxe: [1], ept: false}
  tdx:
    keyids: 2
    version: 1.5.10
    metadata: {max_vcpus_per_td: 1}
    missing: [pamt_4k_entry_size]
    faults:
      - {leaf: TDH.SYS.LP.INIT, cpu: 1, call: 2, times: 3, outcome: TDX_SYS_BUSY}
      - {leaf: TDH.SYS.CONFIG, outcome: 0xC000050500000000}""",
)


def test_the_emulated_platform_is_what_the_scenario_says() -> None:
    scenario = load(PLATFORM)
    config = scenario.machine.platform()
    assert config.cpu == CpuConfig("sapphirerapids", {1: 1}, {None: ("ept",), 1: ("pause_loop_exiting",)}, vmxe=(1,))
    assert config.tdx == ModuleConfig(
        version=(1, 5, 10),
        metadata={"max_vcpus_per_td": 1},
        missing_metadata=frozenset({"pamt_4k_entry_size"}),
        mktme_keyids=63,
        tdx_keyids=2,
        faults=(
            FaultRule("TDH.SYS.LP.INIT", "TDX_SYS_BUSY", lp=1, call=2, times=3),
            FaultRule("TDH.SYS.CONFIG", "0xc000050500000000"),
        ),
    )
    assert load(to_yaml(scenario)) == scenario


def test_a_tdx_module_without_faults_is_an_empty_mapping_and_without_the_key_there_is_none() -> None:
    scenario = load(GOOD.replace("{cpus: 2}", "{cpus: 2, virt: vmx, tdx: {}}"))
    assert scenario.machine.platform().tdx is not None
    assert load(to_yaml(scenario)) == scenario
    assert load(GOOD).machine.platform() == PlatformConfig()


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("sapphirerapids", "skylake", 8, "unknown CPU model 'skylake'; there is: sapphirerapids, "),
        ("pause_loop_exiting", "ple", 8, "unknown VMX control 'ple'"),
        ("{1: 1}", "{2: 1}", 8, "there is no CPU 2: the machine has CPUs 0-1"),
        ("cpu: 1, call", "cpu: 2, call", 15, "there is no CPU 2"),
        ("virt: vmx", "virt: any", 8, "`cpu` is for CPUs with VMX"),
        ("TDH.SYS.LP.INIT", "TDH.SYS.LP.INITT", 15, "did you mean TDH.SYS.LP.INIT"),
        ("TDX_SYS_BUSY", "TDX_BUSY", 15, "unknown TDX completion status 'TDX_BUSY'"),
        ("max_vcpus_per_td", "max_cpus_per_td", 12, "did you mean MAX_VCPUS_PER_TD"),
        ("[pamt_4k_entry_size]", "[pamt_8k_entry_size]", 13, "unknown TDX metadata field"),
        ("times: 3", "times: 0", 15, "greater than or equal to 1"),
        ("version: 1.5.10", "version: 1.5", 11, "version"),
        ("keyids: 2", "keyidz: 2", 10, "unknown key 'tdx.keyidz'"),
    ],
)
def test_faults_of_the_platform_s_sections_are_named_with_their_line(
    old: str, new: str, line: int, what: str
) -> None:
    assert old in PLATFORM
    with pytest.raises(ScenarioError) as caught:
        load(PLATFORM.replace(old, new, 1))
    assert f"x.yaml:{line}: " in str(caught.value)
    assert what in str(caught.value)


def test_platform_events_need_no_trace_entry_and_have_known_arguments() -> None:
    load(GOOD.replace("kvm_online_cpu, per: cpu", '"seamcall[leaf=TDH.SYS.INIT,task=cpuhp/1]", per: cpu'))
    with pytest.raises(ScenarioError, match=r"x.yaml:19: there is no argument in vmxon"):
        load(GOOD.replace("kvm_online_cpu, per: cpu", '"vmxon[leaf=1]", per: cpu'))
    with pytest.raises(ScenarioError, match=r"x.yaml:22: there is no argument 'leaf'"):
        load(GOOD.replace("virt: {at: loaded, on: [0, 1]}", "arguments: {event: vmxon, are: {leaf: 1}}"))


def test_the_first_boot_is_a_window_and_no_step_has_its_name() -> None:
    load(GOOD.replace("during: [offline, unload]", "during: boot"))
    load(GOOD.replace("during: [offline, unload]", "during: [boot, unload]"))
    with pytest.raises(ScenarioError, match="it comes before every step"):
        load(GOOD.replace("during: [offline, unload]", "during: [offline, boot]"))
    with pytest.raises(ScenarioError, match=r"x.yaml:14: `during: boot` means the first boot"):
        load(GOOD.replace("  - offline: 1", "  - {offline: 1, id: boot}"))
    with pytest.raises(ScenarioError, match="there is no step 'boot'"):
        load(GOOD.replace("exit: {loader: OK, unload: EBUSY}", "exit: {boot: OK}"))


def test_expectations_are_limited_to_their_kernels_and_vendor() -> None:
    scenario = load(GOOD)
    assert [e.kind for e in scenario.expectations_on("6.1.0", "vmx")] == ["exit", "order"]
    assert [e.kind for e in scenario.expectations_on("7.3.4", "svm")] == ["exit", "order", "count", "virt"]


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("machine: {cpus: 2}", "machine: {cpux: 2}", 5, "unknown key 'cpux'"),
        ("machine: {cpus: 2}", "machine: {cpus: many}", 5, "cpus: takes a whole number, not 'many'"),
        ("title: load", "titel: load", 1, "unknown key 'titel'"),
        ("kernels: [debian:6.12]", "kernels: []", 4, "'kernels' is missing or empty"),
        ("  - start: loader", "  - strat: loader", 10, "unknown step strat"),
        ("  - start: loader", "  - start: loader\n    load: kvm", 10, "more than one step"),
        ("  - start: loader", "  - start: lader", 10, "there is no actor 'lader'"),
        ("within: 5s", "within: soon", 12, "'soon' is not a duration"),
        ("until: loader.exit", "until: other.exit", 11, "actor 'other' has not been started"),
        ("- sample: loaded", "- sample: 7", 13, "7 is not an id"),
        ("- sample: loaded", "- {sample: loaded, id: start}", 10, "duplicate id 'start'"),
        ("- offline: 1", "- offline: 2", 14, "there is no CPU 2"),
        ("unload: EBUSY}", "unlaod: EBUSY}", 17, "there is no step 'unlaod'"),
        ("unload: EBUSY}", "unload: EBUZY}", 17, "'EBUZY' is not an errno name"),
        ("at: loaded", "at: reloaded", 22, "there is no sample 'reloaded'"),
        ("[kvm_online_cpu.return@each", "[kvm_onlin_cpu.return@each", 18, "no traced event 'kvm_onlin_cpu'"),
        ("  - exit:", "  - exits:", 17, "unknown expectation exits"),
        ("is: 1}", "is: 1, min: 1}", 19, "give either `is`"),
        ('kernels: ">=6.12"', "kernels: newest", 21, "not a range of kernel versions"),
        ("{id: own, text: it loads, source: nowhere}", "no-such-claim", 3, "unknown claim 'no-such-claim'"),
        ("actors:", "actors:\n  idle: {run: 'true'}", 8, "actor 'idle' is never started"),
        ("  loader: {load: kvm_vendor, cpu: 1}", "  loader: {load: kvm_vendor, id: x}", 8, "actors have no 'id'"),
        ("- start: loader", "- start: loader\n  - {start: loader, id: s2}", 11, "started twice"),
        ("    within: 5s", "  - {until: loader.exit, id: u2}", 12, "has already been waited for"),
        ("- sample: loaded", "- sample: reset", 13, "the harness takes sample 'reset' by itself"),
        ("machine: {cpus: 2}", "machine: {cpus: 2, without_virt: 2}", 5, "a CPU with virtualization is needed"),
        ("during: [offline, unload]", "during: [unload, offline]", 20, "step 'offline' comes before step 'unload'"),
        ("during: [offline, unload]", "during: until", 20, "step 'until' leaves no marks"),
        ("- offline: 1", "- wrmsr: {target: 1, msr: 1}", 14, "give either `value`"),
        (
            "  - exit: {loader",
            "  - arguments: {event: kvm_shutdown, are: {stat: 6}}\n  - exit: {loader",
            17,
            "no `fetch` of kvm_shutdown gives 'stat'",
        ),
        (
            "kvm_online_cpu, per: cpu",
            '"kvm_online_cpu[cpu=1]", per: cpu',
            19,
            "no argument in kvm_online_cpu[cpu=1]: 'cpu'",
        ),
        (
            "kvm_online_cpu, per: cpu",
            '"kvm_online_cpu[ret=0]", per: cpu',
            19,
            "no argument in kvm_online_cpu[ret=0]: 'ret'",
        ),
        ("kvm_online_cpu, per: cpu", '"cpuhp_enter[fuction=f]", per: cpu', 19, "'fuction'"),
        ("kvm_online_cpu, per: cpu", "kvm_online_cpu@2, per: cpu", 19, "the machine has CPUs 0-1"),
        ("per: cpu, is: 1", "min: 0", 19, "`min: 0` cannot fail"),
        ("virt: {at: loaded, on: [0, 1]}", "state: {at: loaded, are: {}}", 22, "this cannot fail"),
        ("virt: {at: loaded, on: [0, 1]}", "dmesg: {absent: ''}", 22, "an empty pattern"),
        ("machine: {cpus: 2}", "machine: {cpus: 2, sockets: 4}", 5, "2 cpus do not fill 4 sockets evenly"),
        ("machine: {cpus: 2}", "machine: {cpus: 2, cpu: 2}", 5, "'cpu' takes a mapping"),
        ("machine: {cpus: 2}", "machine: q35", 5, "a mapping belongs here, not 'q35'"),
        ("actors:", "points:\n  p: {function: f}\nactors:", 8, "a task held at 'p' would never be waited for"),
        ("  - start: loader", "  - release: p\n  - start: loader", 10, "no step before this one holds it"),
    ],
)
def test_fault_is_named_with_its_line(old: str, new: str, line: int, what: str) -> None:
    assert old in GOOD
    with pytest.raises(ScenarioError) as caught:
        load(GOOD.replace(old, new, 1))
    assert f"x.yaml:{line}: " in str(caught.value)
    assert what in str(caught.value)
    assert caught.value.exit is Exit.USAGE


def test_all_faults_are_listed_at_once() -> None:
    with pytest.raises(ScenarioError) as caught:
        load(GOOD.replace("cpus: 2", "cpus: x").replace("within: 5s", "within: x"))
    assert "x.yaml:5:" in str(caught.value)
    assert "x.yaml:12:" in str(caught.value)


def test_an_unknown_key_hides_no_other_fault() -> None:
    with pytest.raises(ScenarioError) as caught:
        load(GOOD.replace("expect:", "expct:", 1).replace("cpus: 2", "cpus: x"))
    assert "'expect' is missing" in str(caught.value)
    assert "did you mean 'expect'?" in str(caught.value)
    assert "x.yaml:5:" in str(caught.value)


def test_claim_without_expectation() -> None:
    text = GOOD.replace("kernels: [", "  - {id: other, text: t, source: s}\nkernels: [", 1)
    with pytest.raises(ScenarioError, match="no expectation decides claim 'other'"):
        load(text.replace("  - exit:", "  - claim: own\n    exit:"))


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: &x [1]\nb: *x\n", 2, r"alias \*x is not allowed"),
        ("a: 1\na: 2\n", 2, "duplicate key 'a'"),
        ("a: [1\n", 2, "not YAML"),
        ("a: !!python/object:os.system x\n", 1, "tag"),
        ("", 1, "the file is empty"),
        ("- 1\n", 1, "a scenario is a mapping"),
        ("[" * 5000, 1, "nested more than 20 deep"),
    ],
)
def test_bad_yaml(text: str, line: int, what: str) -> None:
    with pytest.raises(ScenarioError, match=what) as caught:
        load(text)
    assert caught.value.line == line


def test_alias_bomb_is_refused_before_it_expands() -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10) if i else 'x'}]\n" for i in range(12))
    with pytest.raises(ScenarioError, match="alias"):
        load(levels)


def test_numbers_with_a_dot_stay_text() -> None:
    assert parse_yaml(Path("x"), "v: 6.10\non: off\n").data == {"v": "6.10", "on": "off"}


def test_missing_file() -> None:
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        load_scenario(Path("no/such.yaml"))


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_scenario(tmp_path / "x.yaml")


def test_reference_claims_are_all_there_and_the_bench_s_own_come_after_them() -> None:
    numbers = [claim.number for claim in reference_claims().values()]
    assert numbers[:27] == list(range(1, 28))
    assert set(numbers[27:]) == {None}


@pytest.mark.parametrize(
    ("selector", "what"),
    [
        ("vmxon.call", "vmxon is a moment, with no call"),
        ("console.return", "console is a moment, with no return"),
        ("seamcall[leaf=TDH.SYS.INITT]", "seamcall never has leaf=TDH.SYS.INITT"),
        ("seamcall[status=TDX_SUCESS]", "seamcall never has status=TDX_SUCESS"),
        ("seamcall[status=0x0]", "seamcall never has status=0x0"),
        ("vmxon[fault=PF]", "vmxon never has fault=PF"),
        ("load.end[cpu=1]", "there is no argument in load.end"),
    ],
)
def test_a_selector_that_no_event_can_match_is_refused(selector: str, what: str) -> None:
    """`never` would hold of it whatever the kernel does."""
    never = "never: '{}'"
    assert "virt: {at: loaded, on: [0, 1]}" in GOOD
    load(GOOD.replace("virt: {at: loaded, on: [0, 1]}", never.format("seamcall[status=0x8000ffff00000000]")))
    with pytest.raises(ScenarioError, match=re.escape(what)):
        load(GOOD.replace("virt: {at: loaded, on: [0, 1]}", never.format(selector)))


def test_an_argument_that_no_event_can_have_is_refused() -> None:
    arguments = "arguments: {event: seamcall, are: {status: TDX_SUCESS}}"
    with pytest.raises(ScenarioError, match="seamcall never has status=TDX_SUCESS"):
        load(GOOD.replace("virt: {at: loaded, on: [0, 1]}", arguments))


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("vmxon", "'vmxon' is an event of its own, and no function's"),
        ("console", "'console' is an event of its own, and no function's"),
        ("{function: f, fetch: {task: '%di'}}", "every event has 'task'"),
        ("{function: f, fetch: {ret: '%di'}}", "every event has 'ret'"),
    ],
)
def test_what_is_traced_does_not_pass_for_something_else(entry: str, what: str) -> None:
    with pytest.raises(ScenarioError, match=what):
        load(re.sub(r"(?m)^trace: \[", f"trace: [{entry}, ", GOOD))
