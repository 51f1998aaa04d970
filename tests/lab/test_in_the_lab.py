"""Engine kvm for real, on an emulated host: `make test-lab`, some two hours on two cores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.lab import lab as labs
from harness.lab.keeper import LiveLab
from harness.paths import PROJECT, runs_in
from tests.test_holds import HARD, HARD_IN_REBOOT, HEAD

pytestmark = [pytest.mark.boot, pytest.mark.slow, pytest.mark.lab, pytest.mark.timeout(3000)]

SCENARIOS = PROJECT / "scenarios"
KERNEL = "debian:6.12"

_TRIES = 4

# Scenarios that need no platform of the project's own, nor VMX: those that were seen to come to their end.
CARRIED = (
    *("load-unload", "hotplug", "hotplug-without-vm", "vcpu-hotplug", "vm-lifecycle", "life-of-a-vm"),
    *("failed-enable", "incompatible-cpu", "incompatible-cpu-at-load"),
    *("reboot", "reboot-after-unload", "power-off", "kexec", "panic", "panic-without-crash-kernel"),
    *(
        f"races/{name}"
        for name in (
            *("reboot-during-load", "reboot-after-load", "reboot-before-load", "reboot-overtakes-load"),
            *("reboot-before-cpuhp", "reboot-after-register", "reboot-asleep-in-syscore-shutdown"),
            *("power-off-during-load", "close-after-shutdown", "close-before-reboot"),
            *("vm-during-reboot", "vm-before-reboot", "vm-after-shutdown", "second-vm-waits"),
            *("offline-during-enable", "offline-after-enable", "offline-around-load", "offline-during-unload"),
            *("shutdown-returns", "suspend-during-load", "suspend-after-load"),
        )
    ),
)

# Mutants of the claims 9 to 14, and what notices them.
KILLED = (
    ("state-check-deleted", "races/reboot-during-load", "reboot-in-flight-undone"),
    ("check-at-entry", "races/reboot-during-load", "check-at-entry-insufficient"),
    ("check-before-register", "races/reboot-during-load", "check-after-register"),
    ("unwind-dropped", "races/reboot-during-load", "reboot-in-flight-undone"),
    ("unwind-returns-success", "races/reboot-during-load", "reboot-in-flight-undone"),
    ("shutdown-by-reboot-notifier", "reboot", "system-state-before-kvm-shutdown"),
    ("shutdown-does-nothing", "reboot", "system-state-before-kvm-shutdown"),
    ("enabled-flag-ignored", "races/reboot-after-register", "double-disable-benign"),
)

# EFER.SVME by hand on every CPU, as another hypervisor would leave it.
_RIVAL = """
modprobe msr; echo on > /sys/module/msr/parameters/allow_writes
python3 - <<'END'
import glob
for path in glob.glob("/dev/cpu/[0-9]*/msr"):
    with open(path, "r+b", buffering=0) as msr:
        msr.seek(0xc0000080)
        efer = int.from_bytes(msr.read(8), "little") {change}
        msr.seek(0xc0000080)
        msr.write(efer.to_bytes(8, "little"))
END
"""
_ON, _OFF = _RIVAL.format(change="| 1 << 12"), _RIVAL.format(change="& ~(1 << 12)")
_LOAD = "modprobe kvm_amd nested=1"
_LOAD_AGAIN = f"modprobe -r kvm_amd && {_LOAD}"


@dataclass(frozen=True)
class Broken:
    """A way to break the lab's KVM, to mend it, and what has to be said of it."""

    breaks: str
    mends: str
    found: str
    advice: str


BROKEN = {
    "no module": Broken("modprobe -r kvm_amd", _LOAD, "kvm_amd is not loaded", "modprobe kvm_amd"),
    "no node": Broken(
        "rm /dev/kvm", "mknod /dev/kvm c 10 232", "although KVM has registered its device", "mknod /dev/kvm c 10 232"
    ),
    "nesting off": Broken(
        "modprobe -r kvm_amd && modprobe kvm_amd nested=0",
        _LOAD_AGAIN,
        "kvm_amd is loaded with nested=0",
        "modprobe -r kvm_amd && modprobe kvm_amd nested=1",
    ),
    "not KVM's": Broken(
        "touch /tmp/kvm && mount --bind /tmp/kvm /dev/kvm",
        "umount /dev/kvm",
        "/dev/kvm answers KVM_GET_API_VERSION with",
        "ls -l /dev/kvm",
    ),
    "kept by a rival before the load": Broken(
        f"modprobe -r kvm_amd; {_ON} {_LOAD} && exit 1; dmesg | grep 'enabling virtualization on CPU'",
        _OFF + _LOAD,
        "kvm_amd is not loaded",
        "fails with EIO",
    ),
    "busy": Broken(
        f"modprobe -r kvm_amd kvm && modprobe kvm enable_virt_at_load=0 && {_LOAD}; {_ON}",
        f"{_OFF} modprobe -r kvm_amd kvm && {_LOAD}",
        "KVM_CREATE_VM: EIO",
        "enabling virtualization on CPU",
    ),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLab]:
    with (
        runs_in(tmp_path_factory.mktemp("runs")),
        labs.at_hand(Deadline.after(1500, "the lab")) as running,
    ):
        yield running


def harness(lab: LiveLab, *words: str | Path) -> tuple[int, Any]:
    """The exit status of a command in the lab, and its JSON; None where it wrote none."""
    answer = Path(lab.runs) / "answer.json"
    answer.unlink(missing_ok=True)
    status = labs.harness(lab, [*map(str, words), "--json", str(answer)])
    return status, json.loads(answer.read_text()) if answer.exists() else None


def runs(lab: LiveLab, scenario: Path, *words: str, engine: str = "kvm") -> tuple[int, list[Any]]:
    """Exit status and verdicts of a scenario's runs on the stock kernel, or on the one that `words` name.

    An emulated host's guest may end without a word of its kernel: what is in doubt is run again.
    """
    kernel = () if "--kernel" in words else ("--kernel", KERNEL)
    for _ in range(_TRIES):
        status, results = harness(lab, "run", scenario, "--engine", engine, *kernel, *words)
        if not any("on a KVM whose CPUs are emulated" in str(result["fault"]) for result in results):
            break
    return status, results


def run(lab: LiveLab, scenario: Path, *words: str, engine: str = "kvm") -> tuple[int, Any, Any]:
    """Exit status, verdict and run.json of a scenario's one run."""
    status, [result] = runs(lab, scenario, *words, engine=engine)
    return status, result, json.loads((Path(result["folder"]) / "run.json").read_text())


def verdicts(result: Any) -> dict[str, str]:
    return {claim["id"]: claim["verdict"] for claim in result["claims"]}


def samples(result: Any) -> dict[str, Any]:
    """By name; of several of a name, the last."""
    text = (Path(result["folder"]) / "samples.jsonl").read_text()
    return {sample["name"]: sample for sample in map(json.loads, text.splitlines())}


@contextmanager
def broken(lab: LiveLab, way: Broken) -> Iterator[None]:
    assert labs.command(lab, way.breaks, terminal=False) == 0
    try:
        yield
    finally:
        assert labs.command(lab, way.mends, terminal=False) == 0


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_kvm_is_told_and_never_replaced(name: str, lab: LiveLab) -> None:
    way = BROKEN[name]
    runs = set(Path(lab.runs).glob("*-load-unload-*"))
    with broken(lab, way):
        _, found = harness(lab, "doctor", "--engine", "kvm")
        status, results = harness(lab, "run", SCENARIOS / "load-unload.yaml", "--engine", "kvm", "--kernel", KERNEL)
    [engine] = found["engines"]
    assert (engine["engine"], engine["works"]) == ("kvm (svm)", False)
    assert way.found in engine["text"]
    assert way.advice in engine["advice"]
    assert (status, results) == (3, None)
    assert set(Path(lab.runs).glob("*-load-unload-*")) == runs


def test_doctor_proves_kvm(lab: LiveLab) -> None:
    status, found = harness(lab, "doctor", "--engine", "kvm")
    [engine] = found["engines"]
    assert (status, engine["engine"], engine["works"]) == (0, "kvm (svm)", True)
    assert "kvm_amd turned virtualization on" in engine["text"]
    checks = {check["name"]: check for check in found["checks"]}
    assert checks["kvm_amd.nested"]["found"] == "1"


def test_auto_takes_it_and_the_verdict_says_that_the_host_is_emulated(lab: LiveLab) -> None:
    status, result, record = run(lab, SCENARIOS / "load-unload.yaml", engine="auto")
    assert (status, result["engine"]) == (0, "kvm")
    assert set(verdicts(result).values()) == {"confirmed"}
    assert result["host"]["hypervisor"] == record["host"]["hypervisor"] == "QEMU TCG"
    page = (Path(result["folder"]) / "report.html").read_text()
    assert "on an emulated host (QEMU TCG)" in page
    assert record["start"]["how"] == "snapshot"


def test_a_task_is_held_by_hardware_breakpoints_over_a_reboot(lab: LiveLab) -> None:
    status, result, record = run(lab, SCENARIOS / "races" / "reboot-during-load.yaml")
    assert status == 0
    assert set(verdicts(result).values()) == {"confirmed"}
    assert [(hold["point"], hold["holder"], hold["end"]) for hold in record["holds"]] == [
        ("enabled", "gdbstub", "released"),
        ("before-reset", "gdbstub", "released"),
    ]
    assert set(samples(result)["enabled"]["virt"].values()) == {True}
    reset = samples(result)["reset"]
    assert set(reset["virt"].values()) == {False}
    assert list(reset["wrote"].values()) == [{"port": 0x64, "byte": 0xFE}]
    assert record["complete"] == [1]  # the trace goes on to the reset: it was read out of the machine


@pytest.mark.parametrize(("mutant", "scenario", "claim"), KILLED, ids=[row[0] for row in KILLED])
def test_a_mutant_is_killed_there(mutant: str, scenario: str, claim: str, lab: LiveLab) -> None:
    status, result, _ = run(lab, SCENARIOS / f"{scenario}.yaml", "--kernel", f"{KERNEL} +{mutant}")
    assert status in {0, 1}  # 0 where the scenario declares it
    assert verdicts(result)[claim] == "violated"


def test_a_mutant_resets_with_virtualization_on(lab: LiveLab) -> None:
    _, result, _ = run(
        lab, SCENARIOS / "races" / "reboot-during-load.yaml", "--kernel", f"{KERNEL} +state-check-deleted"
    )
    assert True in samples(result)["reset"]["virt"].values()


@pytest.mark.parametrize(("body", "cpu"), [(HARD, 1), (HARD_IN_REBOOT, 2)], ids=["in a load", "in a reboot"])
def test_a_vcpu_is_stopped_and_the_others_go_on(body: str, cpu: int, lab: LiveLab) -> None:
    scenario = Path(lab.runs) / "hard.yaml"
    scenario.write_text(HEAD + body)
    status, result, record = run(lab, scenario)
    assert (status, verdicts(result)) == (0, {"own": "confirmed"})
    [hold] = record["holds"]
    assert (hold["mode"], hold["cpu"], hold["end"]) == ("hard", cpu, "released")


@pytest.mark.parametrize("name", CARRIED)
def test_it_says_what_tcg_svm_says(name: str, lab: LiveLab) -> None:
    """That is what the scenario declares, which `make test` holds against the emulated engines."""
    status, results = runs(lab, SCENARIOS / f"{name}.yaml")
    said = {verdict for result in results for verdict in verdicts(result).values()}
    assert (status, said <= {"confirmed", "violated"}) == (0, True), said


def test_nobody_who_logs_in_runs_on_cpu_0(lab: LiveLab) -> None:
    assert labs.command(lab, "grep -q '^Cpus_allowed_list:[[:space:]]*1' /proc/self/status", terminal=False) == 0
