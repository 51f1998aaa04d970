"""Which hypervisor runs this host: recorded CPUID answers, and this very host."""

import shutil
import struct
import subprocess

import pytest

from harness.machine import hypervisor as of
from harness.machine.host import host_cpu
from harness.machine.hypervisor import TCG, hypervisor, name_of


def leaf(signature: bytes) -> tuple[int, int, int, int]:
    ebx, ecx, edx = struct.unpack("<3I", signature)
    return 0x4000_0001, ebx, ecx, edx


@pytest.mark.parametrize(
    ("signature", "name"),
    [
        (b"KVMKVMKVM\0\0\0", "KVM"),
        (b"TCGTCGTCGTCG", TCG),
        (b"Microsoft Hv", "Hyper-V"),
        (b"ACRNACRNACRN", "ACRNACRNACRN"),
        (bytes(12), "a hypervisor that gives no name"),
    ],
)
def test_the_signature_is_the_name(signature: bytes, name: str) -> None:
    assert name_of(leaf(signature)) == name


def test_bare_metal_is_not_asked() -> None:
    assert hypervisor(frozenset({"fpu", "svm"})) == ""


def test_this_cpu_answers_with_its_vendor() -> None:
    _, ebx, ecx, edx = of._cpuid(0)
    assert struct.pack("<3I", ebx, edx, ecx).decode() == host_cpu().vendor


@pytest.mark.skipif(not shutil.which("lscpu"), reason="util-linux has the second opinion")
@pytest.mark.skipif("hypervisor" not in host_cpu().flags, reason="bare metal")
def test_lscpu_says_the_same_of_this_host() -> None:
    told = subprocess.run(["lscpu"], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}).stdout
    found = hypervisor(host_cpu().flags)
    assert f"Hypervisor vendor:                       {found}" in told or found not in ("KVM", "Xen", "VMware")
