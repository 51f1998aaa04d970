import dataclasses
from pathlib import Path

from harness.machine import host
from harness.machine.engine import ENGINES
from harness.machine.host import Host

CPUINFO = """\
processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7B13
flags\t\t: fpu vme svm
power management:

processor\t: 1
vendor_id\t: Other
"""


def test_the_first_cpu_counts() -> None:
    cpu = host.host_cpu(CPUINFO)
    assert (cpu.vendor, cpu.model, cpu.flags) == ("AuthenticAMD", "AMD EPYC 7B13", frozenset({"fpu", "vme", "svm"}))


def test_this_host() -> None:
    assert host.host_cpu().vendor != "unknown"
    assert host.cpus() >= 1
    assert host.memory_mib() > 0
    assert len(host.boot_id()) == 36


def test_a_folder_that_is_not_made_yet_has_the_space_of_its_parent(tmp_path: Path) -> None:
    assert host.free_gib(tmp_path / "a" / "b") > 0


METAL = Host("AuthenticAMD", "AMD EPYC 9654", "6.12.95", "", "Supermicro H13SSL-N", {"kvm_amd": "1"})


def test_a_host_is_emulated_when_tcg_runs_it_whatever_its_cpu_is_called() -> None:
    assert not METAL.emulated
    assert not dataclasses.replace(METAL, hypervisor="KVM").emulated
    assert dataclasses.replace(METAL, hypervisor="QEMU TCG").emulated
    assert dataclasses.replace(METAL, cpu="QEMU TCG CPU version 2.5+").emulated  # -cpu max,hypervisor=off


def test_a_host_is_read_back_as_it_was_written() -> None:
    assert Host.from_json({**METAL.to_json(), "added": "later"}) == METAL


def test_this_host_in_a_run_names_no_machine_and_no_person() -> None:
    found = host.this_host(tuple(engine.extension.module for engine in ENGINES))
    assert found.vendor == host.host_cpu().vendor
    assert Path("/proc/sys/kernel/hostname").read_text().strip() not in found.to_json().values()
