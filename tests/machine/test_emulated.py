"""Machines on the emulated platform: what of it follows from the machine, and CPUs that come, go, or lack VMX."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HostFault
from harness.machine.argv import MachineSpec
from harness.machine.emulated import layout_of, platform_of
from harness.machine.engine import by_name
from harness.machine.toolchain import Qemu
from harness.platform.config import PlatformConfig
from harness.platform.cpu import CpuConfig
from tests import guests
from tests.guests import Guest, deadline


def test_the_tdx_module_sees_the_machine_s_packages_and_memory() -> None:
    layout = layout_of(MachineSpec(cpus=4, sockets=2, max_cpus=6, memory_mib=1024))
    assert dict(layout.packages) == {0: 0, 1: 0, 2: 1, 3: 1}
    assert sum(size for _, size in layout.cmrs) == 1023 << 20


def test_engines_without_the_platform_have_none(tmp_path: Path) -> None:
    qemu = Qemu(("/nonexistent/qemu",), "11.1.3", "a test")
    assert platform_of(MachineSpec(), by_name("tcg-svm", ""), qemu, tmp_path, deadline()) is None


@contextlib.contextmanager
def booted(tmp_path: Path, spec: MachineSpec) -> Iterator[Guest]:
    guest = guests.make(tmp_path, spec, "tcg-vmx")
    try:
        guest.boot()
        yield guest
    finally:
        guest.shell.close()
        guest.machine.close()


def run(guest: Guest, script: str) -> str:
    return guest.shell.run(script, deadline()).output


def root(guest: Guest) -> list[int]:
    """Which vCPUs are in VMX operation; one that is not plugged in is not."""
    assert guest.machine.platform is not None
    vmx = guest.machine.platform.summary(deadline())["vmx"]
    return [int(cpu) for cpu, state in vmx.items() if state["root"]]


_MSR = "modprobe msr; dd if=/dev/cpu/{{}}/msr bs=8 count=1 skip={} iflag=skip_bytes 2>/dev/null | od -An -td8"
FEAT_CTL, VMX_BASIC = _MSR.format(0x3A), _MSR.format(0x480)


@pytest.mark.boot
@pytest.mark.network
def test_a_cpu_that_is_plugged_in_is_the_same_model_and_has_vmx(tmp_path: Path) -> None:
    spec = MachineSpec(cpus=2, max_cpus=3, platform=PlatformConfig(CpuConfig("emeraldrapids")))
    with booted(tmp_path, spec) as guest:
        machine = guest.machine
        name = machine.plug_cpu(deadline())
        assert run(guest, "echo 1 > /sys/devices/system/cpu/cpu2/online && modprobe kvm_intel; echo $?") == "0\n"
        assert run(guest, "grep ^model.*207 /proc/cpuinfo | wc -l") == "3\n"
        assert root(guest) == [0, 1, 2]
        assert machine.virtualization(deadline()) == {0: True, 1: True, 2: True}
        run(guest, "echo 0 > /sys/devices/system/cpu/cpu2/online")
        assert root(guest) == [0, 1]
        machine.unplug_cpu(name, deadline())
        assert machine.virtualization(deadline()) == {0: True, 1: True}


@pytest.mark.boot
@pytest.mark.network
def test_a_cpu_without_vmx_and_one_that_firmware_locked_off(tmp_path: Path) -> None:
    spec = MachineSpec(cpus=3, without_virt=1, platform=PlatformConfig(CpuConfig(feat_ctl={1: 1})))
    with booted(tmp_path, spec) as guest:
        assert run(guest, "grep ^flags /proc/cpuinfo | grep -c ' vmx '") == "1\n", (
            "Linux hides it where it is locked off"
        )
        assert [run(guest, FEAT_CTL.format(cpu)).split() for cpu in (0, 1, 2)] == [["5"], ["1"], ["1"]]
        assert [run(guest, VMX_BASIC.format(cpu)).split() != [] for cpu in (1, 2)] == [True, False]
        assert run(guest, "taskset 1 modprobe kvm_intel 2>&1 | tail -n 1").endswith("Input/output error\n")
        assert root(guest) == []


@pytest.mark.boot
@pytest.mark.network
def test_what_fails_in_the_platform_is_the_harness_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with booted(tmp_path, MachineSpec(cpus=1)) as guest:
        platform = guest.machine.platform
        assert platform is not None
        monkeypatch.setattr(platform, "_dispatch", lambda line: 1 / 0)
        with pytest.raises(HostFault, match="the emulated platform failed: division by zero"):
            platform.command("state", deadline())
        with pytest.raises(HostFault, match="the emulated platform failed: division by zero"):
            run(guest, "modprobe kvm_intel; sleep 10")
