"""The examination of this host, without the engines."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.machine import doctor, toolchain
from harness.machine.doctor import Check, Level, Report, examine, kvm_checks
from harness.machine.host import Host, host_cpu
from harness.machine.kvm import KvmHost
from harness.machine.proof import Proof
from tests.guests import deadline
from tests.machine.test_kvm import recorded

WORKS = Proof("tcg-svm", True, "seen")
FAILS = Proof("kvm (svm)", False, "not seen")
OK = Check("gcc", Level.OK, "/usr/bin/gcc")
NOTE = Check("ccache", Level.NOTE, "absent", "get it")
NO = Check("gcc", Level.NO, "absent", "get it")


@pytest.mark.parametrize(
    ("report", "usable"),
    [
        (Report((FAILS, WORKS), (OK, NOTE)), True),
        (Report((FAILS,), (OK,)), False),
        (Report((WORKS,), (NO,)), False),
        (Report((), ()), False),
    ],
)
def test_usable_with_one_engine_and_nothing_missing(report: Report, usable: bool) -> None:
    assert report.usable is usable


@pytest.mark.network
def test_each_no_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PATH", "/nonexistent")
    report = examine((), deadline(600))
    assert all(check.advice for check in report.checks if check.level is not Level.OK)
    missing = {check.name for check in report.checks if check.found == "absent"}
    assert {tool.program for tool in doctor.TOOLS} <= missing


def test_a_qemu_that_is_none_is_a_no_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_QEMU", "/bin/true")
    report = examine((), deadline())
    found = next(check for check in report.checks if check.name == "QEMU")
    assert found.level is Level.NO
    assert toolchain.SERIES in found.advice


# Fields of /proc/cpuinfo on hosts of each vendor; the parameters as kvm_intel and kvm_amd have them in sysfs.
SAPPHIRE_RAPIDS = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
microcode\t: 0x2b0004d0
flags\t\t: fpu vme msr vmx smx est ept vpid ept_ad tsc_adjust avx512f amx_tile serialize
vmx flags\t: vnmi preemption_timer posted_intr ept vpid unrestricted_guest vapic_reg vid ple shadow_vmcs pml

"""
GENOA = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC 9654 96-Core Processor
flags\t\t: fpu vme msr svm npt nrip_save decodeassists v_vmsave_vmload vgif avx512f

"""
INTEL_ON = {"nested": "Y", "ept": "Y", "unrestricted_guest": "Y", "enable_shadow_vmcs": "Y"}


def checked(cpuinfo: str, module: str, parameters: dict[str, str], root: Path) -> dict[str, Check]:
    """The checks of a recorded host, by their names."""
    sys = recorded(root, {module: parameters})
    return {check.name: check for check in kvm_checks(KvmHost(host_cpu(cpuinfo), "", root / "kvm", sys))}


def test_an_intel_host_as_it_should_be(tmp_path: Path) -> None:
    found = checked(SAPPHIRE_RAPIDS, "kvm_intel", INTEL_ON, tmp_path)
    assert list(found) == ["kvm_intel.nested", "kvm_intel.ept", "kvm_intel.unrestricted_guest"]
    assert {check.level for check in found.values()} == {Level.OK}


@pytest.mark.parametrize("name", ["nested", "ept", "unrestricted_guest"])
def test_a_parameter_that_is_off_is_a_note_with_the_command(name: str, tmp_path: Path) -> None:
    found = checked(SAPPHIRE_RAPIDS, "kvm_intel", {**INTEL_ON, name: "N"}, tmp_path)
    off = [check for check in found.values() if check.level is not Level.OK]
    assert [check.name for check in off] == [f"kvm_intel.{name}"]
    assert f"modprobe kvm_intel {name}=1" in off[0].advice


def test_an_amd_host_has_its_own_parameters(tmp_path: Path) -> None:
    found = checked(GENOA, "kvm_amd", {"nested": "1", "npt": "N", "sev": "N"}, tmp_path)
    assert {name: check.level for name, check in found.items()} == {
        "kvm_amd.nested": Level.OK,
        "kvm_amd.npt": Level.NOTE,
    }


def test_another_hypervisor_s_module_is_a_note(tmp_path: Path) -> None:
    found = checked(GENOA, "vboxdrv", {}, tmp_path)["vboxdrv"]
    assert found.level is Level.NOTE and "modprobe -r" in found.advice


def test_what_this_host_runs_on() -> None:
    metal = Host("AuthenticAMD", "AMD EPYC", "6.12", "", "Supermicro H13SSL-N", {})
    assert doctor._beneath(metal) == Check(
        "host", Level.OK, "bare metal, as far as the CPUs tell (Supermicro H13SSL-N)"
    )
    assert doctor._beneath(replace(metal, hypervisor="KVM", hardware="")).found == "a guest of KVM"
    assert doctor._beneath(replace(metal, hypervisor="QEMU TCG")).level is Level.NOTE


def test_too_little_space_is_a_note_with_a_way_out() -> None:
    check = doctor._enough("disk", 1.0, 6.0, "GiB free", "free some")
    assert check == Check("disk", Level.NOTE, "1 GiB free", "6 are advised: free some")
