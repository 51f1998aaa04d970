"""Whole runs on real kernels: the verdict, and the evidence that it rests on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import Exit, ScenarioError
from harness.guest.outcome import Outcome
from harness.judge.judge import judge
from harness.judge.record import load_record
from harness.judge.verdict import ClaimVerdict, Verdict
from harness.machine import toolchain
from harness.machine.engine import Engine, by_name
from harness.machine.toolchain import Qemu
from harness.paths import PROJECT
from harness.report.html import REPORT
from harness.report.result import RunResult
from harness.run import Job, run_job
from harness.scenario.load import load_scenario

pytestmark = pytest.mark.boot

K612 = "debian:6.12"
K61 = "debian:6.1"
HARNESS = Path(sys.executable).with_name("harness")


@pytest.fixture(scope="session")
def qemu() -> Qemu:
    return toolchain.find(Deadline.after(600, "QEMU"))


@pytest.fixture
def engine() -> Engine:
    return by_name("tcg-svm", "")


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def scenario_file(tmp_path: Path, body: str, head: str = "") -> Path:
    path = tmp_path / "own.yaml"
    claims = "title: own\nclaims: [{id: own, text: it holds, source: here}]\nkernels: [debian:6.12]\n"
    path.write_text(claims + (head or "machine: {cpus: 2}\n") + body)
    return path


def run(path: Path, kernel: str, engine: Engine, qemu: Qemu) -> RunResult:
    return run_job(Job(load_scenario(path), kernel, engine, qemu))


def claim(result: RunResult, name: str) -> ClaimVerdict:
    return next(verdict for verdict in result.judgement.claims if verdict.use.claim.id == name)


def no_qemu_of(folder: Path) -> bool:
    """Whether no process has the run's folder on its command line."""
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in cmdline.read_bytes():
                return False
        except OSError:
            continue
    return True


def test_the_life_of_a_vm_on_6_12_with_the_state_that_kvm_shutdown_saw(engine: Engine, qemu: Qemu) -> None:
    result = run(PROJECT / "scenarios/life-of-a-vm.yaml", K612, engine, qemu)
    assert {verdict.verdict for verdict in result.judgement.claims} == {Verdict.CONFIRMED}
    assert result.exit is Exit.CONFIRMED
    record = load_record(result.folder)
    (shutdown,) = [event for event in record.events if event.name == "kvm_shutdown" and event.phase == "call"]
    assert shutdown.args["system_state"] == "6"
    assert record.samples["vm-open"].virt == dict.fromkeys(range(4), True)
    assert record.samples["reset"].virt == dict.fromkeys(range(4), False)
    assert [event.seq for event in record.events] == sorted(event.seq or 0 for event in record.events)
    assert no_qemu_of(result.folder)


def test_demo_on_6_1_is_violated_as_declared_with_a_cpu_on_at_the_reset(engine: Engine, qemu: Qemu) -> None:
    result = run(PROJECT / "scenarios/demo.yaml", K61, engine, qemu)
    for verdict in result.judgement.claims:
        assert (verdict.verdict, verdict.as_declared) == (Verdict.VIOLATED, True)
    assert result.exit is Exit.CONFIRMED
    record = load_record(result.folder)
    assert record.outcomes["creator"].result == "OK"
    assert record.samples["vm-asked-for"].virt == dict.fromkeys(range(4), True)
    assert record.samples["reset"].virt == {0: True, 1: False, 2: False, 3: False}
    names = [(event.name, event.phase) for event in record.events]
    assert names.index(("rebooting", "held")) < names.index(("vendor_enable", "call"))
    assert names.index(("vendor_enable", "call")) < names.index(("rebooting", "released"))
    page = (result.folder / REPORT).read_text()
    assert "Both claims violated, as declared" in page and "-kernel /" in page, "it has the QEMU command"


def test_demo_on_6_12_is_refused_and_undone(engine: Engine, qemu: Qemu) -> None:
    result = run(PROJECT / "scenarios/demo.yaml", K612, engine, qemu)
    assert {verdict.verdict for verdict in result.judgement.claims} == {Verdict.CONFIRMED}
    record = load_record(result.folder)
    assert record.outcomes["creator"].result == "EBUSY"
    assert record.samples["reset"].virt == dict.fromkeys(range(4), False)


def test_a_wrong_order_is_violated_by_the_pair_of_events_and_judged_so_again(
    tmp_path: Path, engine: Engine, qemu: Qemu
) -> None:
    body = (
        "trace: [kvm_online_cpu, register_syscore]\nsteps:\n  - load: kvm_vendor\n"
        "expect:\n  - order: [register_syscore, kvm_online_cpu]\n"
    )
    result = run(scenario_file(tmp_path, body), K612, engine, qemu)
    (verdict,) = result.judgement.claims
    assert (verdict.verdict, result.exit) == (Verdict.VIOLATED, Exit.VIOLATED)
    failed = verdict.findings[0]
    assert [event.name for event in failed.events] == ["kvm_online_cpu", "register_syscore"]
    again = judge(load_record(result.folder)).claims[0]
    assert (again.verdict, again.findings[0].events) == (verdict.verdict, failed.events)


def test_the_emulated_platform_traces_functions_and_the_kernel_its_steps(qemu: Qemu) -> None:
    result = run(PROJECT / "scenarios" / "load-unload.yaml", K612, by_name("tcg-vmx", ""), qemu)
    assert result.exit is Exit.CONFIRMED, [
        found.text for claim in result.judgement.claims for found in claim.findings
    ]
    record = load_record(result.folder)
    assert {"vmxon", "kvm_online_cpu", "misc_register"} <= record.by_platform and not record.lost_by_platform
    assert {event.source for event in record.events if event.name == "kvm_online_cpu"} == {"platform"}
    # Both sources in one order: on each CPU, the step's mark, the kernel's tracepoint, the function, the instruction.
    names = [event.name for event in record.events if event.cpu == 2 and event.task == "cpuhp/2"]
    enter = names.index("cpuhp_enter")
    assert names[enter : enter + 2] == ["cpuhp_enter", "kvm_online_cpu"]
    assert names.index("vendor_enable") < names.index("vmxon")
    # CPUs in real mode have no clock: where no function of the boot is traced, nothing tells when they were started.
    ordered = [event for event in record.events if event.seq is not None]
    assert {event.name for event in record.events if event.seq is None} <= {"sipi"}
    assert [event.seq for event in ordered] == list(range(1, len(ordered) + 1))


UP_TO_THE_RESET = """\
trace:
  - kvm_shutdown
  - vendor_enable
  - syscore_shutdown
  - native_machine_restart
  - stop_this_cpu
  - native_machine_emergency_restart
steps:
  - load: kvm_vendor
  - vm: 1
  - reboot: force
expect:
  - {claim: absent, never: vendor_enable, during: reboot}
  - {claim: present, never: native_machine_emergency_restart, during: reboot}
"""


@pytest.mark.parametrize("engine_name", ["tcg-svm", "tcg-vmx"])
def test_a_boot_is_judged_up_to_its_reset_on_every_engine(tmp_path: Path, qemu: Qemu, engine_name: str) -> None:
    path = scenario_file(tmp_path, UP_TO_THE_RESET)
    one, both = "{id: own, ", "{id: absent, text: it holds, source: here}, {id: present, "
    path.write_text(path.read_text().replace(one, both))
    result = run(path, K612, by_name(engine_name, ""), qemu)
    assert claim(result, "absent").verdict is Verdict.CONFIRMED
    assert claim(result, "present").verdict is Verdict.VIOLATED
    record = load_record(result.folder)
    assert (record.complete, record.lost) == (frozenset({1}), {1: 0})
    assert [write.resets for write in (record.resets[1].wrote or {}).values()] == [True]
    calls = [event for event in record.events if event.phase == "call"]
    end = [event.name for event in calls[[event.name for event in calls].index("syscore_shutdown") :]]
    assert end == [
        "syscore_shutdown",
        "kvm_shutdown",
        "native_machine_restart",
        "stop_this_cpu",
        "native_machine_emergency_restart",
    ]
    assert "harness:begin:vm" in (streamed := (result.folder / "trace.txt").read_text())
    assert "emergency_restart: (" not in streamed


@pytest.mark.parametrize("engine_name", ["tcg-svm", "tcg-vmx"])
def test_a_triple_fault_after_the_kernels_last_words_is_no_restart(
    tmp_path: Path, qemu: Qemu, engine_name: str
) -> None:
    """`reboot=t` of the kernel: a triple fault in the function that else restarts the machine."""
    body = "steps: [reboot: force]\nexpect: [exit: {reboot: OK}]\n"
    path = scenario_file(tmp_path, body, "machine: {cpus: 2, cmdline: reboot=t}\n")
    result = run(path, K612, by_name(engine_name, ""), qemu)
    assert "reboot: machine restart" in (result.folder / "console.log").read_text()
    assert claim(result, "own").verdict is Verdict.NOT_EXERCISED
    assert "no CPU had written to a port that resets it" in claim(result, "own").findings[-1].text


def test_a_function_that_is_not_there_is_refused_before_the_emulated_platform_boots(
    tmp_path: Path, qemu: Qemu
) -> None:
    path = scenario_file(tmp_path, "trace: [no_such_function]\nsteps: [run: 'true']\nexpect: [exit: {run: OK}]\n")
    with pytest.raises(ScenarioError, match=r"own.yaml:5: .*cannot trace no_such_function: there is no function"):
        run(path, K612, by_name("tcg-vmx", ""), qemu)
    (folder,) = (tmp_path / "runs").iterdir()
    assert not (folder / "console.log").exists()


def test_actors_run_beside_the_steps_and_give_their_errno(tmp_path: Path, engine: Engine, qemu: Qemu) -> None:
    body = (
        "actors:\n  slow: {run: 'sleep 5', cpu: 1}\n  second: {load: kvm_vendor}\n"
        "steps:\n  - start: slow\n  - load: kvm_vendor\n  - start: second\n    id: start-second\n"
        "  - until: second.exit\n    id: u2\n  - until: slow.exit\n    id: u1\n"
        "expect:\n  - exit: {slow: OK, load: OK, second: EEXIST}\n"
    )
    result = run(scenario_file(tmp_path, body), K612, engine, qemu)
    assert result.judgement.claims[0].verdict is Verdict.CONFIRMED
    outcomes = {json.loads(line)["id"]: json.loads(line) for line in (result.folder / "steps.jsonl").open()}
    assert Outcome.from_json(outcomes["second"]).result == "EEXIST"
    # The load was done while the sleep still ran: the marks say so.
    marks = [(e.name, e.phase) for e in load_record(result.folder).events if e.phase in ("begin", "end")]
    assert marks.index(("slow", "begin")) < marks.index(("load", "end")) < marks.index(("slow", "end"))


def test_a_panic_that_no_step_asked_for_is_the_kernels(tmp_path: Path, engine: Engine, qemu: Qemu) -> None:
    body = "steps:\n  - run: echo c > /proc/sysrq-trigger\nexpect:\n  - exit: {run: OK}\n"
    result = run(scenario_file(tmp_path, body), K612, engine, qemu)
    assert result.exit is Exit.VIOLATED
    assert "Kernel panic" in result.fault or "panicked" in result.fault
    assert "sysrq triggered crash" in result.fault
    assert (result.folder / "console.log").read_text().count("Kernel panic - not syncing") >= 1


def test_a_reset_that_no_step_asked_for_is_the_kernels(tmp_path: Path, engine: Engine, qemu: Qemu) -> None:
    body = "steps:\n  - run: reboot -f\nexpect:\n  - exit: {run: OK}\n"
    result = run(scenario_file(tmp_path, body), K612, engine, qemu)
    assert result.exit is Exit.VIOLATED
    assert "reset" in result.fault


def test_a_command_that_takes_too_long_is_not_the_kernels_fault(tmp_path: Path, engine: Engine, qemu: Qemu) -> None:
    body = "steps:\n  - run: sleep 60\n    within: 2s\nexpect:\n  - exit: {run: OK}\n"
    result = run(scenario_file(tmp_path, body), K612, engine, qemu)
    assert result.exit is Exit.HARNESS_FAULT
    assert "step 'run'" in result.fault
    assert result.judgement.claims[0].verdict is Verdict.HARNESS_FAULT


def test_a_splat_violates_unless_it_is_expected(tmp_path: Path, engine: Engine, qemu: Qemu) -> None:
    splat = "echo 'WARNING: CPU: 0 PID: 1 at kernel/fake.c:1 fake+0x0' > /dev/kmsg"
    body = f'steps:\n  - run: "{splat}"\nexpect:\n  - exit: {{run: OK}}\n'
    result = run(scenario_file(tmp_path, body), K612, engine, qemu)
    assert result.exit is Exit.VIOLATED
    assert any("unexpected WARNING" in found.text for found in result.judgement.claims[0].findings)
    record = load_record(result.folder)
    expected = body + "  - splat: 'kernel/fake.c'\n"
    (record.folder / "scenario.yaml").write_text(scenario_file(tmp_path, expected).read_text())
    assert judge(load_record(result.folder)).exit is Exit.CONFIRMED


def test_what_the_engine_cannot_do_is_not_exercised_and_nothing_boots(
    tmp_path: Path, engine: Engine, qemu: Qemu
) -> None:
    text = "steps:\n  - load: kvm_vendor\n    id: last\nexpect:\n  - exit: {last: OK}\n"
    result = run(scenario_file(tmp_path, text, "machine: {virt: vmx}\n"), K612, engine, qemu)
    assert result.exit is Exit.NOT_EXERCISED
    assert "needs VMX" in result.fault
    assert not (result.folder / "console.log").exists()
    assert "needs VMX" in (result.folder / REPORT).read_text()


def test_an_unknown_function_is_the_scenarios_fault_with_its_line(tmp_path: Path, engine: Engine, qemu: Qemu) -> None:
    body = "trace: [no_such_function]\nsteps:\n  - load: kvm_vendor\nexpect:\n  - never: no_such_function\n"
    path = scenario_file(tmp_path, body)
    with pytest.raises(ScenarioError, match=r"own\.yaml:5: .*no_such_function") as caught:
        run(path, K612, engine, qemu)
    assert caught.value.exit is Exit.USAGE
    assert no_qemu_of(tmp_path)


def test_a_function_that_cannot_be_probed_does_not_pass_for_one_that_was_not_called(
    tmp_path: Path, engine: Engine, qemu: Qemu
) -> None:
    # It is notrace, and in a module: the kernel takes the probe while the module is absent, and refuses it later.
    body = "trace: [kvm_spurious_fault]\nsteps:\n  - load: kvm_vendor\nexpect:\n  - never: kvm_spurious_fault\n"
    (verdict,) = run(scenario_file(tmp_path, body), K612, engine, qemu).judgement.claims
    assert verdict.verdict is Verdict.NOT_EXERCISED
    assert "no probe for kvm_spurious_fault" in verdict.findings[0].text


@pytest.mark.parametrize(
    ("number", "says"), [(signal.SIGINT, "interrupted"), (signal.SIGKILL, "was killed during this run")]
)
def test_a_run_that_is_stopped_leaves_its_folder_and_no_process(
    tmp_path: Path, runs: Path, number: signal.Signals, says: str
) -> None:
    body = "steps:\n  - run: sleep 50\n    within: 60s\nexpect:\n  - exit: {run: OK}\n"
    argv = [str(HARNESS), "run", str(scenario_file(tmp_path, body)), "--engine", "tcg-svm"]
    child = subprocess.Popen(argv, env={**os.environ, "HARNESS_RUNS": str(runs)}, stderr=subprocess.PIPE)
    deadline = Deadline.after(120, "the guest's boot")
    while not any("harness: begin run" in log.read_text(errors="replace") for log in runs.glob("*/console.log")):
        deadline.check()
        assert child.poll() is None
        deadline.pause(0.1)
    child.send_signal(number)
    child.communicate(timeout=30)
    (folder,) = runs.iterdir()
    gone = Deadline.after(10, "the end of QEMU")
    while not no_qemu_of(folder):
        gone.check()
        time.sleep(0.05)
    assert says in load_record(folder).fault.text  # type: ignore[union-attr]
    assert judge(load_record(folder)).exit is Exit.HARNESS_FAULT
    assert (folder / "console.log").stat().st_size > 1000
    assert number is signal.SIGKILL or child.returncode == 130


def test_a_reset_after_the_last_step_is_the_kernels(tmp_path: Path, engine: Engine, qemu: Qemu) -> None:
    later = "(usleep 50000; echo b > /proc/sysrq-trigger) >/dev/null 2>&1 &"
    body = f"steps:\n  - run: '{later}'\nexpect:\n  - exit: {{run: OK}}\n"
    result = run(scenario_file(tmp_path, body), K612, engine, qemu)
    (verdict,) = result.judgement.claims
    assert verdict.verdict is Verdict.VIOLATED
    assert any("reset" in found.text for found in verdict.findings)


def test_a_module_that_the_kernel_does_not_have_is_no_violation(tmp_path: Path, engine: Engine, qemu: Qemu) -> None:
    body = "steps:\n  - load: tdx_driver\nexpect:\n  - exit: {load: OK}\n"
    result = run(scenario_file(tmp_path, body), K612, engine, qemu)
    assert result.judgement.exit is Exit.NOT_EXERCISED
    fault = load_record(result.folder).fault
    assert fault is not None
    assert fault.text.startswith("kernel debian:6.12 has no module tdx_driver")
    assert not (result.folder / "console.log").exists(), "it booted for nothing"
