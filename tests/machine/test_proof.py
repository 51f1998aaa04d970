"""Proofs: what is kept of them, and one that is real."""

import json
from pathlib import Path

import pytest

from harness.errors import HostFault, UsageError
from harness.machine import proof, toolchain
from harness.machine.auto import Tools
from harness.machine.engine import ENGINES
from harness.machine.host import host_cpu
from harness.machine.proof import Proof, proof_of
from harness.machine.toolchain import Qemu
from harness.platform import build
from harness.scenario.machine import MachineSection, TdxSection
from tests.guests import deadline

QEMU = Qemu(("/nonexistent/qemu",), "11.1.3", "a test")
TCG_SVM = next(engine for engine in ENGINES if engine.name == "tcg-svm")
TCG_VMX = next(engine for engine in ENGINES if engine.name == "tcg-vmx")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    return tmp_path / "proofs.json"


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
