"""What is told of a host: recorded ones, and this one."""

from __future__ import annotations

from pathlib import Path

from harness.machine.host import Host, this_host
from harness.machine.sheet import sheet
from tests.machine.test_doctor import GENOA, INTEL_ON, SAPPHIRE_RAPIDS
from tests.machine.test_kvm import recorded

INTEL = Host("GenuineIntel", "Intel(R) Xeon(R) Platinum 8480+", "6.12.95", "", "Dell R760", {"kvm_intel": "Y"})


def test_an_intel_host(tmp_path: Path) -> None:
    modules = recorded(tmp_path, {"kvm": {"enable_virt_at_load": "Y"}, "kvm_intel": INTEL_ON}) / "module"
    found = dict(sheet(INTEL, SAPPHIRE_RAPIDS + SAPPHIRE_RAPIDS.replace("processor\t: 0", "processor\t: 1"), modules))
    assert found["CPU"] == "GenuineIntel Intel(R) Xeon(R) Platinum 8480+"
    assert (found["cpu family"], found["model"], found["stepping"], found["CPUs"]) == ("6", "143", "8", "2")
    assert "unrestricted_guest" in found["vmx flags"].split()
    assert found["kvm_intel"] == "enable_shadow_vmcs=Y ept=Y nested=Y unrestricted_guest=Y"
    assert (found["kvm"], found["kvm_amd"]) == ("enable_virt_at_load=Y", "not loaded")
    assert found["hypervisor"] == "none"


def test_an_amd_host_has_no_vmx_flags(tmp_path: Path) -> None:
    found = dict(sheet(INTEL, GENOA, tmp_path))
    assert "vmx flags" not in found and "npt" in found["flags"]


def test_this_host_names_nobody() -> None:
    told = "\n".join(" ".join(row) for row in sheet(this_host(()), Path("/proc/cpuinfo").read_text()))
    name = Path("/proc/sys/kernel/hostname").read_text().strip()
    assert name not in told.split()
    assert "root=" not in told  # of /proc/cmdline
