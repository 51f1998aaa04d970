"""The machine with real guests: its states, and each way in which a boot can end."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import DeadlineExceeded, Exit, HostFault, KernelFault
from harness.machine import machine as machine_module
from harness.machine.argv import BootFiles, MachineSpec
from harness.machine.ending import EndingKind, GuestEnded, GuestInDoubt, GuestOutOfReach
from harness.machine.engine import by_name
from harness.machine.machine import Machine, WrongState
from harness.machine.state import State
from harness.machine.toolchain import Qemu
from tests import guests
from tests.guests import Guest, deadline

pytestmark = [pytest.mark.boot, pytest.mark.network]


def pid_of(machine: Machine) -> int:
    """QEMU's process: the one that has the run's folder on its command line."""
    (pid,) = processes_of(machine.run)
    return pid


def processes_of(run: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"qemu-system" in words and str(run).encode() in words:
                found.append(int(entry.name))
    return found


# Life


def test_the_files_of_a_run(guest: Guest) -> None:
    run = guest.machine.run
    assert "harness: ready" in (run / "console.log").read_text()
    assert '"kind": "command"' in (run / "qmp.jsonl").read_text()
    assert os.access(run / "qemu.sh", os.X_OK)
    assert guest.shell.run("ls /dev/virtio-ports", deadline()).stdout == "harness.trace\n"


def test_what_the_guest_traces_is_in_the_run_s_folder(guest: Guest) -> None:
    guest.shell.run("echo hello from the guest > /dev/virtio-ports/harness.trace", deadline())
    assert "hello from the guest\n" in (guest.machine.run / "trace.txt").read_text()


def test_registers_show_virtualization_per_cpu(guest: Guest) -> None:
    machine = guest.machine
    guest.shell.run("modprobe kvm_amd", deadline())
    assert machine.virtualization(deadline()) == {0: True, 1: True}
    guest.shell.run("echo 0 > /sys/devices/system/cpu/cpu1/online", deadline())
    assert machine.virtualization(deadline()) == {0: True, 1: False}
    guest.shell.run("echo 1 > /sys/devices/system/cpu/cpu1/online; modprobe -r kvm_amd", deadline())
    assert machine.virtualization(deadline()) == {0: False, 1: False}


def test_suspend_twice_and_hotplug_after_it(guest: Guest) -> None:
    machine = guest.machine
    for _ in range(2):
        asleep = guest.shell.start("echo mem > /sys/power/state", deadline())
        machine.wait_suspended(deadline())
        assert asleep.poll(deadline()) is None
        machine.wake_up(deadline())
        assert asleep.wait(deadline()).status == 0
    name = machine.plug_cpu(deadline())
    assert guest.shell.run("cat /sys/devices/system/cpu/present", deadline()).stdout == "0-2\n"
    assert len(machine.registers(deadline())) == 3
    machine.unplug_cpu(name, deadline())
    assert guest.shell.run("cat /sys/devices/system/cpu/present", deadline()).stdout == "0-1\n"


def test_a_reset_is_a_pause_with_registers_and_the_next_boot_follows(guest: Guest) -> None:
    machine, number = guest.machine, guest.machine.boot.number
    guest.shell.run("modprobe kvm_amd", deadline())
    guest.shell.start("reboot -f", deadline())
    machine.wait_reset(deadline())
    assert machine.state is State.RESET
    assert not any(machine.virtualization(deadline()).values())
    assert machine.registers(deadline())[0].rip > 1 << 63, "the CPU is still in the kernel"
    machine.continue_boot(deadline())
    machine.wait_ready(deadline())
    assert machine.boot.number == number + 1


def test_power_off_and_on_again(guest: Guest) -> None:
    guest.shell.start("poweroff -f", deadline())
    guest.machine.wait_power_off(deadline())
    guest.boot()
    assert guest.shell.run("true", deadline()).status == 0


def test_pause_and_resume(guest: Guest) -> None:
    guest.machine.pause(deadline())
    assert guest.machine.state is State.STOPPED
    guest.machine.resume(deadline())
    assert guest.shell.run("echo on", deadline()).stdout == "on\n"


def test_a_dump_is_an_elf_core(guest: Guest, tmp_path: Path) -> None:
    guest.machine.dump(tmp_path / "core", deadline())
    assert (tmp_path / "core").read_bytes()[:4] == b"\x7fELF"


# Endings


def test_a_panic(guest: Guest) -> None:
    with pytest.raises(GuestEnded, match="the kernel panicked: sysrq triggered crash") as caught:
        guest.shell.run("echo c > /proc/sysrq-trigger", deadline())
    assert caught.value.ending.kind is EndingKind.PANIC
    assert "sysrq: Trigger a crash" in caught.value.evidence


def test_a_panic_that_was_asked_for(guest: Guest) -> None:
    guest.machine.expect(State.PANICKED)
    guest.shell.start("echo c > /proc/sysrq-trigger", deadline())
    assert guest.machine.wait_panicked(deadline()) == "sysrq triggered crash"
    assert guest.machine.check() is State.PANICKED


def test_a_reset_that_nobody_asked_for(guest: Guest) -> None:
    with pytest.raises(GuestEnded, match=r"the guest reset.*no step had asked") as caught:
        guest.shell.run("reboot -f", deadline())
    assert caught.value.ending.kind is EndingKind.RESET


def test_a_reset_on_emulated_kvm_is_nobodys_fault(guest: Guest) -> None:
    guest.machine._live = dataclasses.replace(guest.machine._started, emulator="QEMU TCG")
    try:
        with pytest.raises(GuestInDoubt, match="on a KVM whose CPUs are emulated") as caught:
            guest.shell.run("reboot -f", deadline())
    finally:  # other tests have the same guest
        guest.machine._live = dataclasses.replace(guest.machine._started, emulator="")
    assert caught.value.exit is Exit.HARNESS_FAULT
    assert caught.value.ending.kind is EndingKind.RESET


def test_a_power_off_while_a_reset_was_waited_for(guest: Guest) -> None:
    guest.shell.start("poweroff -f", deadline())
    with pytest.raises(GuestEnded, match="switched itself off"):
        guest.machine.wait_reset(deadline())


def test_ssh_is_lost_and_the_kernel_lives(guest: Guest) -> None:
    with pytest.raises(GuestOutOfReach, match="SSH is lost, but the kernel lives") as caught:
        guest.shell.run("killall dropbear; sleep 100", deadline())
    assert caught.value.ending.kind is EndingKind.SSH_LOST
    assert not isinstance(caught.value, KernelFault)


def test_a_guest_that_is_silent(guest: Guest) -> None:
    guest.machine.console.send_line("ip link set eth0 down")
    with pytest.raises(GuestEnded, match=r"the guest is silent: .*CPU0 at 0x") as caught:
        guest.shell.run("sleep 100", deadline(3))
    assert caught.value.ending.kind is EndingKind.SILENT
    guest.machine.console.send_line("ip link set eth0 up")
    assert guest.shell.run("true", deadline()).status == 0


def test_a_guest_that_takes_its_time_is_not_silent(guest: Guest) -> None:
    with pytest.raises(DeadlineExceeded, match="the machine is running"):
        guest.machine.wait_reset(deadline(1, "a reset that does not come"))


def test_a_boot_that_prints_nothing(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "SILENCE_S", 0.5)
    guest.machine.console.send_line("reboot -f")
    guest.machine.wait_reset(deadline())
    guest.machine.continue_boot(deadline())
    with pytest.raises(GuestEnded, match="it booted, and printed nothing"):
        guest.machine.wait_ready(deadline())
    monkeypatch.undo()
    guest.machine.wait_ready(deadline())


def test_qemu_is_killed(guest: Guest) -> None:
    os.kill(pid_of(guest.machine), signal.SIGKILL)
    with pytest.raises(GuestOutOfReach, match="QEMU died: killed by SIGKILL") as caught:
        guest.shell.run("sleep 100", deadline())
    assert caught.value.ending.kind is EndingKind.QEMU_DIED
    assert guest.machine.state is State.GONE


# Guards


def test_calls_in_the_wrong_state_say_what_to_call_first(guest: Guest) -> None:
    with pytest.raises(WrongState, match=r"needs a machine that is asleep in S3\n.*found: it is running\n.*suspend"):
        guest.machine.wake_up(deadline())
    with pytest.raises(WrongState, match="needs a machine that is not started"):
        guest.machine.start(deadline())


def test_a_machine_that_is_not_started(tmp_path: Path) -> None:
    nothing = Path("/nonexistent")
    qemu = Qemu(("false",), "11.1.3", "a test")
    machine = Machine(MachineSpec(), by_name("tcg-svm", ""), qemu, BootFiles(nothing, nothing), tmp_path)
    assert machine.state is State.CREATED
    with pytest.raises(WrongState, match=r"call start\(\) first"):
        _ = machine.console
    machine.close()


def test_a_qemu_that_dies_at_its_start_is_quoted(tmp_path: Path) -> None:
    machine = guests.make(tmp_path, MachineSpec(memory_mib=1 << 40)).machine
    with pytest.raises(HostFault) as caught:
        machine.start(deadline())
    assert "memory" in str(caught.value)
    assert processes_of(tmp_path) == []


def test_no_free_place_for_a_cpu(guest: Guest) -> None:
    names = [guest.machine.plug_cpu(deadline()) for _ in range(2)]  # the added socket has two
    with pytest.raises(WrongState, match="free place"):
        guest.machine.plug_cpu(deadline())
    for name in reversed(names):
        guest.machine.unplug_cpu(name, deadline())


# Nothing is left behind

_DRIVER = """
import sys
from pathlib import Path
from harness.machine.argv import MachineSpec
from tests import guests

guest = guests.make(Path(sys.argv[1]), MachineSpec(cpus=1))
print("go", flush=True)
with guest.machine as machine:
    machine.start(guests.deadline())
    machine.wait_ready(guests.deadline())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("try_", range(3))
def test_no_qemu_outlives_the_harness(tmp_path: Path, number: signal.Signals, try_: int) -> None:
    moment = random.Random(f"{number} {try_}").uniform(0.0, 0.6)  # start() takes 0.1 to 0.3 s
    with subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"go\n"
        time.sleep(moment)
        driver.send_signal(number)
        assert driver.wait(30) != 0
    until = time.monotonic() + 5
    while processes_of(tmp_path) and time.monotonic() < until:
        time.sleep(0.02)
    assert processes_of(tmp_path) == []
