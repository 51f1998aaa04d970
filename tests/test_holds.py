"""Tasks held on real kernels: what a hold makes happen, and whose fault it is when something does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import Exit
from harness.judge.record import RunRecord, load_record
from harness.judge.verdict import Finding, Verdict
from harness.machine import toolchain
from harness.machine.engine import by_name
from harness.machine.toolchain import Qemu
from harness.report.result import RunResult
from harness.run import Job, run_job
from harness.run.holders import HoldsChoice
from harness.scenario.load import load_scenario

pytestmark = pytest.mark.boot

K612 = "debian:6.12"
HEAD = "title: own\nclaims: [{id: own, text: it holds, source: here}]\nkernels: [debian:6.12]\n"

RACE = """\
trace: [kvm_online_cpu, kvm_offline_cpu, syscore_shutdown]
actors:
  load: {cpu: 1, load: kvm_vendor}
  reboot: {cpu: 0, reboot: force}
points:
  in-window: {function: register_syscore, actor: load}
  at-reset: {function: machine_restart}
steps:
  - start: load
  - hold: in-window
    within: 2min
  - start: reboot
  - hold: at-reset
    within: 1min
  - release: in-window
  - until: load.exit
    within: 1min
  - sample: before-reset
  - release: at-reset
  - until: reset
    within: 1min
expect:
  - exit: {load: EBUSY, reboot: OK}
  - order: [kvm_online_cpu@each, in-window, syscore_shutdown, at-reset]
  - order: [at-reset, in-window.released, kvm_offline_cpu@each, at-reset.released]
  - virt: {at: before-reset, on: none}
"""

# A callback of CPU hotplug is held, with the hotplug lock taken by the load that waits for it.
OWN_HOLD = """\
actors: {load: {load: kvm_vendor, cpu: 1}}
points: {in-callback: {function: kvm_online_cpu, hit: 2}}
steps:
  - start: load
  - hold: in-callback
    within: 2min
  - offline: 3
    within: 10s
  - release: in-callback
expect: [exit: {load: OK}]
"""

NOBODY = """\
actors: {load: {load: kvm_vendor}}
points: {never: {function: kvm_shutdown, actor: load}}
steps: [start: load, hold: {point: never}, release: never]
expect: [exit: {load: OK}]
"""

WAITS = """\
trace: [kvm_online_cpu, register_syscore]
actors: {load: {load: kvm_vendor, cpu: 1}, reader: {run: cat /tmp/fifo}}
points: {registered: {function: register_syscore, actor: load, phase: return}}
steps:
  - run: mkfifo /tmp/fifo
  - start: reader
    blocks: true
  - start: load
  - until: {event: kvm_online_cpu.return@each, count: 4}
    within: 1min
  - hold: registered
    mode: busy
    within: 1min
  - until: {state: {modules.kvm.refcnt: 1}}
  - offline: 3
  - until: {dmesg: CPU 3 is now offline}
  - release: registered
  - until: load.exit
expect:
  - exit: {load: OK, reader: UNFINISHED, offline: OK}
  - order: [register_syscore, registered, offline.begin, offline.end, registered.released]
"""

HARD = """\
actors: {load: {load: kvm_vendor, cpu: 1}}
points: {registering: {function: register_syscore, actor: load}}
steps:
  - start: load
  - hold: registering
    mode: hard
    within: 2min
  - sample: stopped
  - release: registering
  - until: load.exit
    within: 1min
expect:
  - exit: {load: OK}
  - virt: {at: stopped, on: all}
"""

# A CPU is stopped in the IPI in which a reboot is to disable it; the others have gone by.
HARD_IN_REBOOT = """\
trace: [kvm_shutdown, vendor_disable]
actors: {reboot: {reboot: force, cpu: 0}}
points: {slow: {function: vendor_disable, cpu: 2}}
steps:
  - load: kvm_vendor
  - start: reboot
  - hold: slow
    mode: hard
    within: 2min
  - until: {event: vendor_disable.return, count: 3}
  - sample: stopped
  - release: slow
  - until: reset
expect:
  - exit: {load: OK}
  - order: [kvm_shutdown, slow, vendor_disable.return@0, slow.released, vendor_disable.return@2, kvm_shutdown.return]
  - virt: {at: stopped, on: [2]}
  - virt: {at: reset, on: none}
"""

# S3 with points armed, of which one has held somebody before; CPUs lose their state on the way.
ARMED_OVER_S3 = """\
trace: [kvm_suspend, kvm_resume]
actors: {load: {load: kvm_vendor, cpu: 1}, second: {vm: {vcpus: 1, cpu: 1}}}
points:
  in-window: {function: register_syscore, actor: load}
  creating: {function: kvm_vm_ioctl, actor: second, when: {"%si:u32": 0xae41}}
steps:
  - suspend: mem
    id: first
  - start: load
  - hold: in-window
    within: 2min
  - release: in-window
  - until: load.exit
  - suspend: mem
    id: ram
  - sample: resumed
  - start: second
  - hold: creating
  - release: creating
  - until: second.exit
expect:
  - exit: {first: OK, load: OK, ram: OK, second: OK}
  - order: [in-window, in-window.released, kvm_suspend, kvm_resume, creating, creating.released]
  - virt: {at: ram-asleep, on: none}
  - virt: {at: resumed, on: all}
"""

LOST_TO_KEXEC = """\
actors: {writer: {run: mkdir /tmp/d}, kexec: {kexec: force, cpu: 0}}
points: {in-kernel: {function: do_mkdirat, actor: writer}}
steps:
  - start: writer
  - hold: in-kernel
    within: 2min
  - start: kexec
  - until: kexec.exit
    within: 2min
  - boot: next
  - run: mkdir /tmp/d
    id: again
expect:
  - exit: {writer: UNFINISHED, kexec: OK, boot: OK, again: OK}
  - order: [in-kernel, in-kernel.lost]
"""


@pytest.fixture(scope="session")
def qemu() -> Qemu:
    return toolchain.find(Deadline.after(600, "QEMU"))


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))


def run(body: str, engine: str, qemu: Qemu, folder: Path, holds: HoldsChoice = "auto") -> tuple[RunResult, RunRecord]:
    path = folder / "own.yaml"
    path.write_text(HEAD + body)
    result = run_job(Job(load_scenario(path), K612, by_name(engine, ""), qemu, holds=holds))
    return result, load_record(result.folder)


def fault(record: RunRecord) -> str:
    assert record.fault is not None
    return record.fault.text


@pytest.mark.parametrize(
    ("engine", "holds", "holder"),
    [("tcg-vmx", "auto", "plugin"), ("tcg-vmx", "gdbstub", "gdbstub"), ("tcg-svm", "auto", "gdbstub")],
)
def test_a_reboot_overtakes_a_load_the_same_way_with_every_holder(
    engine: str, holds: HoldsChoice, holder: str, tmp_path: Path, qemu: Qemu
) -> None:
    result, record = run(RACE, engine, qemu, tmp_path, holds)
    (claim,) = result.judgement.claims
    assert claim.verdict is Verdict.CONFIRMED, [f.text for f in claim.findings if f.finding is not Finding.HELD]
    assert [(hold.holder, hold.end) for hold in record.holds] == [(holder, "released")] * 2


def test_a_hold_that_blocks_the_scenario_itself_is_the_harness_s_fault(tmp_path: Path, qemu: Qemu) -> None:
    result, record = run(OWN_HOLD, "tcg-vmx", qemu, tmp_path)
    assert result.exit is Exit.HARNESS_FAULT
    assert "the scenario's own hold blocks step 'offline'" in fault(record)
    assert "held at in-callback: cpuhp/1" in fault(record) and "cpu_device_down" in fault(record)
    assert [hold.end for hold in record.holds] == ["end of run"]


def test_a_point_that_nobody_comes_to_is_not_waited_for_longer_than_its_actor_lives(
    tmp_path: Path, qemu: Qemu
) -> None:
    result, record = run(NOBODY, "tcg-vmx", qemu, tmp_path)
    assert result.exit is Exit.NOT_EXERCISED
    assert fault(record) == "actor 'load' came to its end (OK) without coming to point 'never'"


def test_a_soft_hold_on_a_kernel_that_does_not_preempt_says_so(tmp_path: Path, qemu: Qemu) -> None:
    body = NOBODY.replace("kvm_shutdown", "register_syscore")
    result, record = run("machine: {cmdline: preempt=none}\n" + body, "tcg-vmx", qemu, tmp_path)
    assert result.exit is Exit.NOT_EXERCISED
    assert "the kernel runs with preemption model 'none'" in fault(record) and "mode: busy" in fault(record)


def test_everything_that_can_be_waited_for_comes(tmp_path: Path, qemu: Qemu) -> None:
    result, record = run(WAITS, "tcg-vmx", qemu, tmp_path)
    assert result.exit is Exit.CONFIRMED, record.fault
    assert "sleeps in" in record.outcomes["start"].detail


def test_a_vcpu_that_is_stopped_leaves_the_others_alone(tmp_path: Path, qemu: Qemu) -> None:
    result, record = run(HARD, "tcg-svm", qemu, tmp_path)
    assert result.exit is Exit.CONFIRMED, record.fault
    assert [(hold.mode, hold.end) for hold in record.holds] == [("hard", "released")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "engine", "holds"),
    [
        pytest.param(HARD_IN_REBOOT, "tcg-vmx", "auto", id="hard hold in a reboot"),
        pytest.param(ARMED_OVER_S3, "tcg-vmx", "plugin", id="armed over S3, plugin"),
        pytest.param(ARMED_OVER_S3, "tcg-svm", "gdbstub", id="armed over S3, gdbstub"),
        pytest.param(LOST_TO_KEXEC, "tcg-vmx", "plugin", id="lost to kexec, plugin"),
        pytest.param(LOST_TO_KEXEC, "tcg-vmx", "gdbstub", id="lost to kexec, gdbstub"),
    ],
)
def test_points_and_holds_outlive_what_a_machine_goes_through(
    body: str, engine: str, holds: HoldsChoice, tmp_path: Path, qemu: Qemu
) -> None:
    result, record = run(body, engine, qemu, tmp_path, holds)
    assert result.exit is Exit.CONFIRMED, record.fault or [
        f.text for c in result.judgement.claims for f in c.findings
    ]
