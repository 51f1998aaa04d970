"""Proofs: what is kept of them, and one that is real."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from harness import progress
from harness.cache import reading_only
from harness.deadline import patience
from harness.errors import DeadlineExceeded, HarnessError, HostFault, UsageError
from harness.machine import kvm, proof, toolchain
from harness.machine.auto import Tools
from harness.machine.ending import Ending, EndingKind, GuestEnded, GuestOutOfReach
from harness.machine.engine import ENGINES, SVM, Engine
from harness.machine.host import KVM_DEVICE, host_cpu
from harness.machine.kvm import Obstacle
from harness.machine.proof import Proof, proof_of
from harness.machine.toolchain import Qemu
from harness.platform import build
from harness.scenario.machine import MachineSection, TdxSection
from tests.guests import deadline

QEMU = Qemu(("/nonexistent/qemu",), "11.1.3", "a test")
TCG_SVM = next(engine for engine in ENGINES if engine.name == "tcg-svm")
TCG_VMX = next(engine for engine in ENGINES if engine.name == "tcg-vmx")


KVM = Engine("kvm", SVM, accel="kvm", cpu="host", on_host=True, proof_s=30.0)
ABSENT = Obstacle("no module", "/dev/kvm, which kvm_amd makes", "/dev/kvm is absent", "modprobe kvm_amd")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where proofs are kept, on a host whose KVM shows no obstacle."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(kvm, "look", lambda *_: None)
    return tmp_path / "proofs.json"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The notes that were made."""
    notes: list[str] = []
    monkeypatch.setattr(progress, "note", notes.append)
    return notes


def on_amd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that could have kvm (svm), whatever this one is."""
    cpu = dataclasses.replace(host_cpu(), vendor="AuthenticAMD")
    for module in ("auto", "proof"):
        monkeypatch.setattr(f"harness.machine.{module}.host_cpu", lambda: cpu)


def keep(cache: Path, *proofs: Proof) -> None:
    proof._save(cache, QEMU, {one.engine: one for one in proofs})


def test_a_proof_of_this_boot_is_believed(cache: Path) -> None:
    known = Proof("tcg-svm", True, "seen", seconds=5.0)
    keep(cache, known)
    assert proof_of(TCG_SVM, QEMU, deadline()) == known


def test_auto_takes_the_first_that_is_proven(cache: Path) -> None:
    suited = [engine for engine in ENGINES if engine.suits(host_cpu().vendor)]
    keep(cache, *(Proof(engine.label, engine is TCG_SVM, "as kept") for engine in suited))
    assert Tools("auto", QEMU).engine() is TCG_SVM
    keep(cache, *(Proof(engine.label, True, "as kept") for engine in suited))
    assert Tools("auto", QEMU).engine() is suited[0]


def test_auto_takes_the_first_that_has_what_the_scenario_needs(cache: Path) -> None:
    keep(cache, *(Proof(engine.label, engine.accel != "kvm", "as kept") for engine in ENGINES))
    tools = Tools("auto", QEMU)
    assert tools.engine(MachineSection()).name == "tcg-svm"
    assert tools.engine(MachineSection(virt="svm")).name == "tcg-svm"
    assert tools.engine(MachineSection(virt="vmx")).name == "tcg-vmx"
    assert tools.engine(MachineSection(virt="vmx", tdx=TdxSection())).name == "tcg-vmx"


def test_where_no_engine_has_it_the_run_is_left_to_say_so(cache: Path) -> None:
    keep(cache, *(Proof(engine.label, engine is TCG_SVM, "as kept") for engine in ENGINES))
    assert Tools("auto", QEMU).engine(MachineSection(virt="vmx")) is TCG_SVM


def test_no_engine_at_all(cache: Path) -> None:
    keep(cache, *(Proof(engine.label, False, "as kept") for engine in ENGINES))
    with pytest.raises(HostFault, match="tcg-vmx: as kept"):
        Tools("auto", QEMU).engine()


def test_a_named_engine_needs_no_proof(cache: Path) -> None:
    assert Tools("tcg-svm", QEMU).engine(MachineSection(virt="vmx")) is TCG_SVM
    with pytest.raises(UsageError, match="unknown engine 'xen'"):
        Tools("xen", QEMU).engine()


def test_an_engine_of_the_other_vendor_is_not_tried(cache: Path) -> None:
    other = next(engine for engine in ENGINES if not engine.suits(host_cpu().vendor))
    found = proof_of(other, QEMU, deadline())
    assert not found.works
    assert "this host's CPU" in found.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"for": 1, "proofs": {}}'])
def test_what_cannot_be_read_proves_nothing(cache: Path, content: str) -> None:
    cache.write_text(content)
    assert proof._load(cache, QEMU) == {}


def test_a_proof_of_another_boot_or_qemu_proves_nothing(cache: Path) -> None:
    keep(cache, Proof("tcg-svm", True, "seen"))
    assert proof._load(cache, Qemu(("/other/qemu",), "11.1.3", "a test")) == {}
    data = json.loads(cache.read_text())
    data["for"][0] = "00000000-0000-0000-0000-000000000000"
    cache.write_text(json.dumps(data))
    assert proof._load(cache, QEMU) == {}


def test_emulated_vmx_needs_a_compiler_and_is_tried_again_once_there_is_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(cache, Proof("tcg-vmx", True, "as kept"))
    assert proof_of(TCG_VMX, QEMU, deadline()).works
    with monkeypatch.context() as patch:
        patch.setattr(build, "COMPILER", "no-such-compiler")
        found = proof_of(TCG_VMX, QEMU, deadline())
    assert not found.works
    assert "C compiler" in found.text and "apt install gcc" in found.advice
    assert proof_of(TCG_VMX, QEMU, deadline()).works


def test_emulated_vmx_needs_a_qemu_with_its_plugin_api(cache: Path) -> None:
    found = proof_of(TCG_VMX, Qemu(("qemu",), "7.2.22", "a test"), deadline())
    assert not found.works
    assert "plugin API 7" in found.text and "found: QEMU 7.2.22" in found.text


def test_a_named_kvm_that_does_not_work_is_the_host_s_fault_and_nothing_else_is_taken(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_amd(monkeypatch)
    keep(cache, Proof("kvm (svm)", False, "silence", "update it", expected="a word"), Proof("tcg-svm", True, "kept"))
    with pytest.raises(HostFault) as caught:
        Tools("kvm", QEMU).engine()
    fault = caught.value
    assert (fault.found, fault.hint, fault.expected) == ("silence", "update it", "a word")
    assert "kvm (svm) does not work on this host" in fault.what
    keep(cache, Proof("kvm (svm)", True, "seen"))
    assert Tools("kvm", QEMU).engine().name == "kvm"


def test_an_obstacle_outweighs_what_a_boot_has_proven_and_is_not_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_amd(monkeypatch)
    keep(cache, Proof("kvm (svm)", True, "seen"))
    with monkeypatch.context() as patch:
        patch.setattr(kvm, "look", lambda *_: ABSENT)
        found = proof_of(KVM, QEMU, deadline())
    assert (found.works, found.text, found.advice) == (False, ABSENT.found, ABSENT.advice)
    assert proof_of(KVM, QEMU, deadline()).works


def test_auto_says_why_and_what_it_takes_instead(
    cache: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_amd(monkeypatch)
    monkeypatch.setattr(kvm, "look", lambda *_: ABSENT)
    keep(cache, Proof("tcg-svm", True, "a guest booted"))
    tools = Tools("auto", QEMU)
    assert [tools.engine().name for _ in range(2)] == ["tcg-svm", "tcg-svm"]
    assert told == [
        "engine kvm (svm) does not work here: /dev/kvm is absent",
        "engine tcg-svm works: a guest booted",
        "engine auto: tcg-svm in place of kvm (svm), see `harness doctor`",
    ]


def test_where_kvm_works_nothing_is_said_of_the_others(
    cache: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_amd(monkeypatch)
    keep(cache, Proof("kvm (svm)", True, "a guest booted"))
    assert Tools("auto", QEMU).engine().name == "kvm"
    assert told == ["engine kvm (svm) works: a guest booted"]


def test_a_dry_run_says_what_is_known_of_a_named_kvm(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_amd(monkeypatch)
    with reading_only():
        assert Tools("kvm", QEMU).foreseen(MachineSection())[1].startswith("asked for; not proven")
        keep(cache, Proof("kvm (svm)", False, "silence"))
        assert Tools("kvm", QEMU).foreseen(MachineSection())[1] == "asked for, and does not work here: silence"
        keep(cache, Proof("kvm (svm)", True, "seen"))
        assert Tools("kvm", QEMU).foreseen(MachineSection())[1] == "asked for"


SILENT = Ending(EndingKind.SILENT, 1, "the guest is silent")
ABORTED = Ending(EndingKind.QEMU_DIED, 1, "QEMU died: killed by SIGABRT")


@pytest.mark.parametrize(
    ("error", "printed", "case"),
    [
        (GuestOutOfReach(ABORTED), [], "QEMU ended"),
        (GuestOutOfReach(ABORTED), ["[    0.0] Linux"], "QEMU ended"),
        (GuestEnded(SILENT), [], "no kernel runs"),
        (DeadlineExceeded("timed out"), [], "no kernel runs"),
        (DeadlineExceeded("timed out"), ["Probing EDD"], "not ready"),
        (GuestEnded(dataclasses.replace(SILENT, kind=EndingKind.PANIC)), ["Oops"], "not ready"),
        (proof._NoVirtualization("modprobe fails"), ["Linux"], "no virtualization"),
    ],
)
def test_what_a_boot_came_to_is_a_case(error: HarnessError, printed: list[str], case: str) -> None:
    assert proof._case(error, printed) == case


@pytest.mark.boot
@pytest.mark.network
@pytest.mark.skipif(not os.access(KVM_DEVICE, os.R_OK | os.W_OK), reason="no /dev/kvm")
@pytest.mark.skipif(kvm.look(SVM, kvm.this_kvm_host()) is None, reason="the host's KVM gives its guests SVM")
def test_a_kvm_that_makes_vms_and_runs_no_kernel_is_told_from_a_broken_kernel() -> None:
    """For real where KVM is kvm_pvm, which creates VMs; 31 s, of which the guest has 20."""
    found = proof.prove(dataclasses.replace(KVM, proof_s=20.0), toolchain.find(deadline(600)), deadline(900))
    assert not found.works
    assert f"no kernel prints anything in {20 * patience():.0f} s" in found.text and "CPU0 at 0x" in found.text
    assert "update this host's kernel" in found.advice


@pytest.mark.boot
@pytest.mark.network
@pytest.mark.skipif(not os.access(KVM_DEVICE, os.R_OK | os.W_OK), reason="no /dev/kvm")
def test_a_qemu_that_does_not_take_the_cpu_is_quoted_with_its_exit_status() -> None:
    unknown = dataclasses.replace(KVM, cpu="host,no-such-feature=on")
    found = proof.prove(unknown, toolchain.find(deadline(600)), deadline(900))
    assert not found.works
    assert "QEMU died: exit status 1" in found.text and "no-such-feature" in found.text
    assert "HARNESS_QEMU" in found.advice and found.expected.endswith("-accel kvm -cpu host,no-such-feature=on")


@pytest.mark.boot
@pytest.mark.network
def test_a_qemu_that_aborts_is_quoted_with_its_signal() -> None:
    words = "qemu: kvm_buf_set_msrs: Assertion ret == cpu->kvm_msr_buf->nmsrs failed."
    broken = Qemu(("sh", "-c", f"echo '{words}' >&2; kill -ABRT $$"), "11.1.3", "a test")
    found = proof.prove(KVM, broken, deadline(900))
    assert found.text == f"QEMU died: killed by SIGABRT; QEMU said: {words}"


@pytest.mark.boot
@pytest.mark.network
def test_emulated_vmx_is_proven_by_a_guest() -> None:
    found = proof_of(TCG_VMX, toolchain.find(deadline(600)), deadline(900), again=True)
    assert found.works, found.text
    assert "kvm_intel turned virtualization on" in found.text


@pytest.mark.boot
@pytest.mark.network
def test_emulated_svm_is_proven_by_a_guest() -> None:
    found = proof_of(TCG_SVM, toolchain.find(deadline(600)), deadline(900), again=True)
    assert found.works, found.text
    assert "kvm_amd turned virtualization on" in found.text


@pytest.mark.boot
@pytest.mark.network
def test_a_qemu_that_dies_proves_nothing_and_is_quoted() -> None:
    broken = Qemu(("sh", "-c", "echo 'could not set up the accelerator' >&2; exit 1"), "11.1.3", "a test")
    found = proof.prove(TCG_SVM, broken, deadline(900))
    assert not found.works
    assert "exit status 1" in found.text
    assert "could not set up the accelerator" in found.text
