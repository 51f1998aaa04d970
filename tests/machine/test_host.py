from pathlib import Path

from harness.machine import host

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
