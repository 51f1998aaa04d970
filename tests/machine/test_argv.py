"""The command line as text: what is on it, for which machine."""

import shlex
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.machine.argv import BY_HAND, BootFiles, MachineSpec, argv, groups, inherited, script
from harness.machine.engine import Engine, by_name
from harness.machine.toolchain import Qemu
from harness.platform.config import PlatformConfig
from harness.platform.cpu import CpuConfig

QEMU = Qemu(("/opt/ld.so", "/opt/qemu-system-x86_64"), "11.1.3", "a test")
FILES = BootFiles(Path("/k/vmlinuz"), Path("/k/initrd"))
TCG = by_name("tcg-svm", "GenuineIntel")
KVM = by_name("kvm", "GenuineIntel")
VMX = by_name("tcg-vmx", "GenuineIntel")


def words(spec: MachineSpec, run: str = "/run", engine: Engine = TCG) -> str:
    return shlex.join(argv(QEMU, groups(spec, engine, FILES, Path(run), inherited(5, 7))))


def test_the_prefix_comes_first() -> None:
    assert words(MachineSpec()).startswith("/opt/ld.so /opt/qemu-system-x86_64 -nodefaults")


def test_a_reset_pauses_the_machine() -> None:
    assert "-action reboot=shutdown,shutdown=pause" in words(MachineSpec())


def test_a_panic_cannot_look_like_a_reset() -> None:
    assert "panic=0" in words(MachineSpec())
    assert "-no-reboot" not in words(MachineSpec())


def test_no_port_and_no_path_that_two_runs_could_share() -> None:
    line = words(MachineSpec())
    assert "hostfwd=tcp:127.0.0.1:0-:22" in line
    assert "socket,fd=5,id=console,logfile=/run/console.log" in line
    assert "socket,fd=7,id=chr-qmp" in line


def test_the_scenario_s_command_line_comes_last() -> None:
    assert " preempt=full quiet' -action" in words(MachineSpec(cmdline="preempt=full  quiet"))


def test_a_comma_in_a_path_does_not_end_the_option() -> None:
    assert "logfile=/runs/a,,b/console.log" in words(MachineSpec(), run="/runs/a,b")


def test_kexec_disks_are_read_only_and_in_order() -> None:
    line = words(MachineSpec(kexec_disks=True))
    kernel, initrd = line.index("readonly=on,file=/k/vmlinuz"), line.index("readonly=on,file=/k/initrd")
    assert kernel < initrd
    assert "virtio-blk" not in words(MachineSpec())


@pytest.mark.parametrize(
    ("spec", "topology"),
    [
        (MachineSpec(cpus=4), "4,maxcpus=4,sockets=1,cores=4,threads=1"),
        (MachineSpec(cpus=4, sockets=2), "4,maxcpus=4,sockets=2,cores=2,threads=1"),
        (MachineSpec(cpus=2, max_cpus=3), "2,maxcpus=4,sockets=2,cores=2,threads=1"),
        (MachineSpec(cpus=4, max_cpus=5, sockets=4), "4,maxcpus=5,sockets=5,cores=1,threads=1"),
    ],
)
def test_hot_pluggable_cpus_have_sockets_of_their_own(spec: MachineSpec, topology: str) -> None:
    assert f"-smp {topology} " in words(spec)


def test_hotplug_under_tcg_poses_as_a_hypervisor_that_linux_knows() -> None:
    assert "VMware" in words(MachineSpec(cpus=2, max_cpus=3))
    assert "VMware" not in words(MachineSpec(cpus=2))
    assert "VMware" not in words(MachineSpec(cpus=2, max_cpus=3), engine=KVM)


def test_emulated_vmx_is_an_intel_cpu_over_tcg_s_features() -> None:
    line = words(MachineSpec(platform=PlatformConfig(CpuConfig("sapphirerapids"))), engine=VMX)
    assert "-cpu max,vendor=GenuineIntel,family=6,model=143,stepping=8,x-force-features=on,vmx=on,svm=off," in line
    assert "GenuineIntel" not in words(MachineSpec()), "the other engines keep the vendor that their extension needs"


def test_the_platform_s_plugin_is_loaded_by_the_harness_and_left_out_of_the_script() -> None:
    wiring = inherited(5, 7, ("-plugin", "/c/platform.so,fd=9"))
    assert "-plugin /c/platform.so,fd=9 " in shlex.join(
        argv(QEMU, groups(MachineSpec(), VMX, FILES, Path("/run"), wiring))
    )
    by_hand = script(QEMU, groups(MachineSpec(), VMX, FILES, Path("/run"), BY_HAND))
    assert "-plugin" not in by_hand
    assert "#   left out here: the plugin with VMX and TDX" in by_hand
    assert "\n   \\" not in by_hand, "no empty line in the command"


def test_a_model_that_was_chosen_on_intel_has_vmx_on_all_cpus_but_the_odd_ones() -> None:
    intel = by_name("kvm", "GenuineIntel")
    assert "-accel kvm -cpu host -smp" in words(MachineSpec(cpus=4), engine=intel)
    line = words(MachineSpec(cpus=4, without_virt=1, cpu_model="sapphirerapids"), engine=intel)
    assert "-accel kvm -cpu SapphireRapids-v1,vmx=on " in line
    assert "-device SapphireRapids-v1-x86_64-cpu,socket-id=0,core-id=3,thread-id=0,vmx=off" in line


def test_emulated_cpus_without_vmx_inherit_the_rest() -> None:
    line = words(MachineSpec(cpus=4, sockets=2, without_virt=1), engine=VMX)
    assert "-device max-x86_64-cpu,socket-id=1,core-id=1,thread-id=0,vmx=off" in line
    assert "-cpu max,vendor=GenuineIntel" in line


def test_hot_plugged_emulated_cpus_keep_their_identity() -> None:
    line = words(MachineSpec(cpus=2, max_cpus=3), engine=VMX)
    assert "movdir64b=on,hypervisor=off" in line and "VMware" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cpus": 0}, "at least 1"),
        ({"cpus": 3, "sockets": 2}, "a multiple of sockets"),
        ({"cpus": 4, "max_cpus": 2}, "max_cpus counts cpus too"),
        ({"memory_mib": 64}, "at least 128"),
    ],
)
def test_a_machine_that_cannot_be_built(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MachineSpec(**arguments)  # type: ignore[arg-type]  # the integers of the table


def test_the_script_is_the_same_machine_with_the_console_on_the_terminal() -> None:
    parts = groups(MachineSpec(), TCG, FILES, Path("/run"), BY_HAND)
    text = script(QEMU, parts)
    command = text[text.index("\n/opt/ld.so") :]
    assert shlex.split(command.replace("\\\n", " ")) == argv(QEMU, parts)
    assert "stdio,signal=off,id=console" in command
    assert all(f"#   {part.why}\n" in text for part in parts)
