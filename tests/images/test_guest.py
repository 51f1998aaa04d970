"""The image in a real guest: init's contract, and guestctl with the errnos of a real kernel."""

from __future__ import annotations

import json
from pathlib import Path

import paramiko
import pexpect
import pytest

from harness.kernels.model import Kernel
from tests.images.conftest import PROMPT, Guest, Shell, start

pytestmark = [pytest.mark.boot, pytest.mark.network]

EFER_SVME = 1 << 12


@pytest.fixture
def kvm(shell: Shell) -> str:
    """kvm_amd is loaded."""
    report = shell.guestctl("load kvm_amd")
    assert report["errno_name"] in ("", "EEXIST")
    return "kvm_amd"


def test_console_has_a_shell_with_job_control(guest: Guest) -> None:
    # Unlike a shell on /dev/console, one on a terminal of its own can be interrupted.
    guest.console.sendline("echo started; sleep 1000")
    guest.console.expect(r"started\r")
    # The shell loses a ^C that comes while it is about to hand the terminal to its child.
    for _ in range(10):
        guest.console.sendintr()
        if guest.console.expect([PROMPT, pexpect.TIMEOUT], timeout=3) == 0:
            break
    else:
        pytest.fail("sleep could not be interrupted")
    guest.console.sendline("tty")
    guest.console.expect("/dev/ttyS0")


def test_only_the_key_of_the_run_logs_in(guest: Guest) -> None:
    guest.connect().close()
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    with pytest.raises(paramiko.SSHException):
        client.connect(
            "127.0.0.1",
            guest.port,
            "root",
            pkey=paramiko.RSAKey.generate(2048),
            look_for_keys=False,
            allow_agent=False,
        )


def test_file_systems_and_ports(shell: Shell) -> None:
    _, mounts = shell.run("cut -d' ' -f2,3 /proc/mounts")
    expected = {"/proc proc", "/sys sysfs", "/dev devtmpfs", "/dev/pts devpts", "/tmp tmpfs", "/run tmpfs"}
    expected |= {"/sys/kernel/tracing tracefs", "/sys/kernel/debug debugfs"}
    assert expected <= set(mounts.splitlines())
    assert shell.run("test -c /dev/virtio-ports/harness.trace")[0] == 0


def test_kmod_finds_the_modules_of_the_image(shell: Shell) -> None:
    status, text = shell.run("/sbin/modprobe --show-depends kvm_amd")
    assert status == 0
    assert [line.split("/")[-1].strip() for line in text.splitlines()][-1] == "kvm-amd.ko"


def test_load_says_which_module_failed(shell: Shell) -> None:
    report = shell.guestctl("load kvm_intel")
    assert (report["errno_name"], report["failed"]) == ("EOPNOTSUPP", "kvm_intel")
    report = shell.guestctl("load no_such_module")
    assert (report["errno_name"], report["failed"]) == ("ENOENT", "no_such_module")


def test_load_reports_an_unknown_value_and_a_module_already_there(shell: Shell, kvm: str) -> None:
    assert shell.guestctl(f"load {kvm}")["errno_name"] == "EEXIST"
    assert shell.guestctl(f"unload {kvm}")["unloaded"] == [kvm]
    assert shell.guestctl(f"load {kvm} nested=maybe")["errno_name"] == "EINVAL"
    report = shell.guestctl(f"load {kvm} nested=0")
    assert (report["errno"], report["parameters"]) == (0, "nested=0")
    assert shell.guestctl("state")["parameters"][kvm]["nested"] == "0"


def test_built_in_module_is_there_already(shell: Shell) -> None:
    report = shell.guestctl("load virtio_pci")
    assert (report["errno"], report["builtin"]) == (0, True)


def test_unload_of_a_module_in_use(shell: Shell, kvm: str) -> None:
    report = shell.guestctl(f"unload kvm {kvm}")
    assert (report["target"], report["unloaded"]) == ("kvm", [])
    assert report["errno_name"] == "EAGAIN"  # delete_module(2): EWOULDBLOCK
    assert shell.guestctl("unload no_such_module")["errno_name"] == "ENOENT"


def test_write(shell: Shell) -> None:
    online = "/sys/devices/system/cpu/cpu1/online"
    assert shell.guestctl(f"write {online} 0")["errno"] == 0
    assert shell.guestctl("state")["online"] == "0"
    assert shell.guestctl(f"write {online} 1")["errno"] == 0
    report = shell.guestctl(f"write {online} x")
    assert (report["errno_name"], report["step"]) == ("EINVAL", "write")
    report = shell.guestctl("write /sys/absent 1")
    assert (report["errno_name"], report["step"]) == ("ENOENT", "open")


def test_vm_is_held_until_it_is_closed(shell: Shell, kvm: str) -> None:
    _, holder, _ = shell.client.exec_command("guestctl vm --vcpus 2 --hold /run/vm")
    opened = json.loads(holder.readline())
    assert (opened["errno"], opened["vcpus"], opened["step"]) == (0, 2, "")
    assert shell.guestctl("state")["modules"][kvm]["refcnt"] > 0
    assert shell.guestctl(f"unload {kvm}")["errno_name"] == "EAGAIN"
    assert shell.guestctl("vm-close /run/vm")["errno"] == 0
    assert shell.guestctl("state")["modules"][kvm]["refcnt"] == 0
    closed = json.loads(holder.readline())
    assert (closed["op"], closed["errno"]) == ("vm-close", 0)
    assert shell.guestctl("vm-close /run/vm")["errno_name"] == "ENOENT"


def test_killing_the_holder_closes_the_vm(shell: Shell, kvm: str) -> None:
    _, holder, _ = shell.client.exec_command("guestctl vm --hold /run/killed")
    opened = json.loads(holder.readline())
    assert shell.run(f"kill -9 {opened['pid']}")[0] == 0
    assert holder.channel.recv_exit_status() != 0
    assert shell.guestctl("state")["modules"][kvm]["refcnt"] == 0
    assert shell.guestctl("vm-close /run/killed")["errno_name"] == "ENXIO"


def test_vm_says_at_which_step_it_failed(shell: Shell, kvm: str) -> None:
    assert shell.guestctl("vm --hold /proc/nowhere")["step"] == "mkfifo"
    assert shell.guestctl(f"unload {kvm} kvm")["errno"] == 0
    report = shell.guestctl("vm")
    assert (report["step"], report["errno_name"]) == ("open", "ENOENT")


def test_msr(shell: Shell, kvm: str) -> None:
    report = shell.guestctl("rdmsr 1 0xc0000080")
    assert int(report["value"], 16) & EFER_SVME
    assert shell.guestctl("state")["efer"]["1"] == report["value"]
    assert shell.guestctl("rdmsr 99 0xc0000080")["errno_name"] == "ENOENT"
    # TSC_AUX: writing back what is there changes nothing.
    value = shell.guestctl("rdmsr 0 0xc0000103")["value"]
    assert shell.guestctl(f"wrmsr 0 0xc0000103 {value}")["errno"] == 0
    # The upper half of PKRS is reserved: a general protection fault, which the kernel reports as EIO.
    assert shell.guestctl("wrmsr 0 0x6e1 0x100000000")["errno_name"] == "EIO"


def test_state_and_cpu(shell: Shell) -> None:
    state = shell.guestctl("state")
    assert set(state["hotplug"]) == {"0", "1"}
    assert state["uptime"] > 0
    assert state["tainted"] >= 0
    cpu = shell.guestctl("cpu")
    assert (cpu["vendor"], cpu["svm"], cpu["vmx"]) == ("AuthenticAMD", True, False)


@pytest.mark.parametrize("arguments", ["", "nonsense", "write /x", "rdmsr 0 zero", "vm --vcpus -1", "vm --hold"])
def test_wrong_usage(shell: Shell, arguments: str) -> None:
    assert shell.run(f"guestctl {arguments}") == (2, "")


def test_orderly_reboot_then_power_off(stock_kernel: Kernel, tmp_path: Path) -> None:
    guest = start(stock_kernel, tmp_path)
    guest.console.expect("harness: ready")
    guest.console.expect(PROMPT)
    guest.console.sendline("reboot")
    guest.console.expect("Sent SIGTERM to all processes")
    guest.console.expect("harness: ready")
    guest.console.expect(PROMPT)
    guest.console.sendline("poweroff")
    guest.console.expect("Sent SIGTERM to all processes")
    guest.console.expect(pexpect.EOF)
    guest.console.close()
    assert guest.console.exitstatus == 0


def test_crash_kernel_mode(stock_kernel: Kernel, tmp_path: Path) -> None:
    guest = start(stock_kernel, tmp_path, "harness.crash")
    guest.console.expect(r"harness: crash kernel (\d+\.\d+)\r")
    guest.console.expect(PROMPT)
    guest.console.close(force=True)


def test_what_fails_is_said_and_a_shell_is_given(stock_kernel: Kernel, tmp_path: Path) -> None:
    guest = start(stock_kernel, tmp_path, "module_blacklist=virtio_net")
    guest.console.expect(r"harness: failed load virtio_net: \{.*EPERM.*\}\r")
    guest.console.expect(PROMPT)
    guest.console.close(force=True)
