"""TDX on the emulated platform: a real kernel brings up the model of the module, and seeded bugs in it are seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.judge.record import RunRecord, load_record
from harness.judge.verdict import ClaimVerdict, Finding, Verdict
from harness.kernels.model import BuildOptions
from harness.kernels.resolve import resolve
from harness.machine import toolchain
from harness.machine.engine import by_name
from harness.paths import PROJECT
from harness.run import Job, run_job
from harness.scenario.load import load_scenario

pytestmark = [pytest.mark.boot, pytest.mark.timeout(3600)]

KERNEL = "debian-source:7.3+tdx"
MUTANTS = PROJECT / "patches" / "mutants" / "7.3"


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    """Built once: eleven minutes on two cores, of which no single test shall be blamed."""
    resolve(KERNEL, BuildOptions(), Deadline.after(3000, "a kernel with TDX"))


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))


def run(scenario: str, mutant: str = "", fault: str = "") -> tuple[dict[str, ClaimVerdict], RunRecord]:
    """The verdicts by claim, and what they rest on; `fault` is the type of what ends the run early."""
    patches = (MUTANTS / f"{mutant}.patch",) if mutant else ()
    job = Job(
        load_scenario(PROJECT / "scenarios" / "tdx" / f"{scenario}.yaml"),
        KERNEL,
        by_name("tcg-vmx", ""),
        toolchain.find(Deadline.after(600, "QEMU")),
        BuildOptions(patches=patches),
    )
    result = run_job(job)
    record = load_record(result.folder)
    assert (record.fault.type if record.fault else "") == fault
    return {claim.use.claim.id: claim for claim in result.judgement.claims}, record


def test_every_cpu_does_vmxon_before_its_first_seamcall() -> None:
    verdicts, record = run("bring-up")
    assert {claim.verdict for claim in verdicts.values()} == {Verdict.CONFIRMED}
    for cpu in range(4):
        mine = [event for event in record.events if event.cpu == cpu and event.name in ("vmxon", "seamcall")]
        assert [event.name for event in mine][:1] == ["vmxon"]
        leaves = [event.args["leaf"] for event in mine if event.name == "seamcall"]
        assert leaves.count("TDH.SYS.LP.INIT") == 1
        assert ("TDH.SYS.INIT" in leaves) == (cpu == 0)
    assert record.samples["booted"].platform["tdx"]["state"] == "ready"
    # A gigabyte of TDMR, at 4 MB a call.
    assert sum(event.args.get("leaf") == "TDH.SYS.TDMR.INIT" for event in record.events) == 256


def test_a_seamcall_before_vmxon_is_seen_and_blamed() -> None:
    verdicts, record = run("bring-up", "seamcall-before-vmxon")
    claim = verdicts["vmxon-before-seamcall"]
    assert claim.verdict is Verdict.VIOLATED
    evidence = [event for found in claim.findings if found.finding is Finding.FAILED for event in found.events]
    assert any(event.name == "seamcall" and event.args["fault"] == "UD" for event in evidence)
    assert not any(event.name == "vmxon" for event in record.events)
    assert record.samples["booted"].platform["tdx"]["state"] == "pending"


def test_a_cpu_is_initialized_once_however_often_it_comes_online() -> None:
    verdicts, record = run("hotplug")
    assert {claim.verdict for claim in verdicts.values()} == {Verdict.CONFIRMED}
    on_cpu_3 = [event.name for event in record.events if event.cpu == 3 and event.name in ("vmxon", "vmxoff")]
    assert on_cpu_3 == ["vmxon", "vmxoff", "vmxon"]


def test_the_module_is_disabled_between_kvm_s_shutdown_and_the_reset() -> None:
    verdicts, record = run("reboot")
    assert {claim.verdict for claim in verdicts.values()} == {Verdict.CONFIRMED}
    first = [event for event in record.events if event.boot == 1]
    names = [event.args.get("leaf", event.name) for event in first]
    assert names.index("TDH.SYS.DISABLE") < names.index("vmxoff") < names.index("machine_restart")
    assert record.samples["reset"].platform["tdx"]["state"] == "disabled"


def test_a_fault_on_one_cpu_undoes_the_others() -> None:
    verdicts, record = run("faults/lp-init-busy")
    assert {claim.verdict for claim in verdicts.values()} == {Verdict.CONFIRMED}
    busy = [event for event in record.events if event.args.get("status") == "TDX_SYS_BUSY"]
    assert [event.cpu for event in busy] == [2]
    roots = record.samples["booted"].platform["vmx"]
    assert {cpu: state["root"] for cpu, state in roots.items()} == {"0": 0, "1": 0, "2": 0, "3": 0}


def test_a_cpu_that_is_left_behind_is_seen() -> None:
    verdicts, record = run("faults/lp-init-busy", "failed-cpu-keeps-reference")
    assert verdicts["tdx-bring-up-rolled-back"].verdict is Verdict.VIOLATED
    assert record.samples["booted"].platform["vmx"]["2"]["root"] == 1


@pytest.mark.slow
def test_a_crash_kernel_that_never_starts_is_the_kernel_s_fault() -> None:
    """VMX is left on, so that relocate_kernel() faults when it clears CR4.VMXE; the harness waits for two minutes."""
    verdicts, record = run("panic-without-kvm", "emergency-only-with-kvm", fault="NoCrashKernel")
    assert verdicts["tdx-disabled-on-crash"].verdict is Verdict.VIOLATED
    assert not any(event.name == "vmxoff" for event in record.events)
