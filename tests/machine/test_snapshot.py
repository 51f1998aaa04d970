"""Snapshots: what they are refused for, and a machine that goes on in another QEMU as if nothing had happened."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HostFault, UsageError
from harness.kernels import BuildOptions, Kernel, resolve
from harness.machine.argv import MachineSpec
from harness.machine.machine import WrongState
from harness.machine.qmp import QmpEvent
from harness.machine.snapshot import Snapshot, SnapshotBroken, continue_records, is_done
from harness.machine.state import State
from harness.platform.config import PlatformConfig
from harness.platform.tdx import ModuleConfig
from tests import guests
from tests.guests import Guest, deadline

STATE = b"as QEMU writes it"
MACHINE = ("engine tcg-vmx", "QEMU 11.1.3", "4 CPUs")


def written(
    parent: Path, boot: int = 1, platform: Mapping[str, object] | None = None, run: Path | None = None
) -> Snapshot:
    (parent / "machine.state").write_bytes(STATE)
    saved = Snapshot(MACHINE, boot, 0, platform)
    saved.write(parent, run or folder(parent, "run"))
    return saved


def events(*statuses: str) -> list[QmpEvent]:
    return [QmpEvent(number, 0.0, "MIGRATION", {"status": status}) for number, status in enumerate(statuses)]


def test_done_is_what_qemu_calls_completed() -> None:
    assert not is_done([])
    assert not is_done(events("setup", "active"))
    assert is_done(events("setup", "active", "completed"))
    with pytest.raises(HostFault, match="setup, failed"):
        is_done(events("setup", "failed"))


def test_a_snapshot_is_read_as_it_was_written(tmp_path: Path) -> None:
    saved = written(tmp_path, 3, {"plugin": ["seq 1"], "tdx": None})
    assert Snapshot.read(tmp_path, MACHINE) == replace(saved, size=len(STATE))


def test_a_snapshot_of_another_machine_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(UsageError, match=r"expected: .*4 CPUs\n +found: .*2 CPUs"):
        Snapshot.read(tmp_path, (*MACHINE[:2], "2 CPUs"))


def test_a_folder_without_a_snapshot(tmp_path: Path) -> None:
    with pytest.raises(SnapshotBroken, match="has no snapshot"):
        Snapshot.read(tmp_path, MACHINE)


def test_a_state_that_was_cut_short(tmp_path: Path) -> None:
    written(tmp_path)
    os.truncate(tmp_path / "machine.state", len(STATE) - 1)
    with pytest.raises(SnapshotBroken, match=f"expected: {len(STATE)} bytes\n +found: {len(STATE) - 1} bytes"):
        Snapshot.read(tmp_path, MACHINE)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"made_for": ["x"]}', '{"made_for": [], "nonsense": 1}'])
def test_a_description_that_is_none(tmp_path: Path, text: str) -> None:
    written(tmp_path)
    (tmp_path / "machine.json").write_text(text)
    with pytest.raises(SnapshotBroken, match="has no snapshot"):
        Snapshot.read(tmp_path, MACHINE)


def test_the_records_of_a_boot_go_on(tmp_path: Path) -> None:
    run, other = folder(tmp_path, "run"), folder(tmp_path, "other")
    (run / "console.log").write_bytes(b"[0.0] Linux\r\n\xff\n")
    (run / "platform.jsonl").write_text("{}\n")
    written(tmp_path, run=run)
    assert continue_records(tmp_path, other) == "[0.0] Linux\r\n\ufffd\n"
    assert (other / "platform.jsonl").read_text() == "{}\n"
    (tmp_path / "console.log").unlink()
    with pytest.raises(SnapshotBroken, match="incomplete"):
        continue_records(tmp_path, other)


@contextlib.contextmanager
def closing(guest: Guest) -> Iterator[Guest]:
    try:
        yield guest
    finally:
        guest.shell.close()
        guest.machine.close()


def folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


def run(guest: Guest, script: str) -> str:
    return guest.shell.run(script, deadline()).stdout


def saved_and_restored(before: Guest, tmp_path: Path, script: str) -> Guest:
    """Boots `before`, runs `script` in it, saves it, and returns a restored twin; the former has then ended."""
    with closing(before):
        before.boot()
        assert run(before, f"{script} && echo done").endswith("done\n")
        before.machine.save(folder(tmp_path, "snapshot"), deadline())
        assert before.machine.state is State.RUNNING
        assert run(before, "echo it goes on") == "it goes on\n"
    after = guests.twin(before, folder(tmp_path, "after"))
    after.machine.restore(tmp_path / "snapshot", deadline())
    after.shell.connect(deadline())
    assert after.machine.platform is not None
    saved = json.loads((tmp_path / "snapshot" / "machine.json").read_text())["platform"]
    assert json.loads(json.dumps(after.machine.platform.state(deadline()))) == saved, "MSRs, VMX, the TDX module"
    return after


@pytest.mark.boot
@pytest.mark.network
def test_vmx_operation_survives_and_ends_without_a_fault(tmp_path: Path) -> None:
    before = guests.make(folder(tmp_path, "before"), MachineSpec(cpus=2), "tcg-vmx")
    with closing(saved_and_restored(before, tmp_path, "modprobe kvm_intel")) as guest:
        machine = guest.machine
        assert machine.platform is not None
        assert machine.state is State.RUNNING
        assert machine.virtualization(deadline()) == {0: True, 1: True}
        assert [cpu["root"] for cpu in machine.platform.summary(deadline())["vmx"].values()] == [1, 1]
        assert run(guest, "modprobe -r kvm_intel; echo $?") == "0\n"
        assert run(guest, "dmesg | grep -c -e WARNING -e BUG -e Oops") == "0\n"
        assert machine.virtualization(deadline()) == {0: False, 1: False}
        guest.shell.start("reboot -f", deadline())
        machine.wait_reset(deadline())
        assert machine.boot.number == 1
        machine.continue_boot(deadline())
        machine.wait_ready(deadline())


@pytest.mark.boot
@pytest.mark.network
def test_only_a_running_machine_is_saved_and_only_a_new_one_restored(tmp_path: Path) -> None:
    with closing(guests.make(folder(tmp_path, "before"), MachineSpec(cpus=1))) as guest:
        with pytest.raises(WrongState, match="save"):
            guest.machine.save(tmp_path, deadline())
        guest.boot()
        with pytest.raises(WrongState, match="restore"):
            guest.machine.restore(tmp_path, deadline())


@pytest.mark.boot
@pytest.mark.network
@pytest.mark.slow
def test_a_tdx_module_that_is_ready_stays_ready(tmp_path: Path, tdx_kernel: Kernel) -> None:
    spec = MachineSpec(cpus=4, sockets=2, memory_mib=768, platform=PlatformConfig(tdx=ModuleConfig()))
    before = guests.make(folder(tmp_path, "before"), spec, "tcg-vmx", tdx_kernel)
    with closing(saved_and_restored(before, tmp_path, "true")) as guest:
        platform = guest.machine.platform
        assert platform is not None
        assert platform.summary(deadline())["tdx"]["state"] == "ready"
        # KVM's reads of metadata reach the restored module, and another TDH.SYS.LP.INIT is not needed.
        assert run(guest, "modprobe kvm_intel tdx=1; cat /sys/module/kvm_intel/parameters/tdx") == "Y\n"


@pytest.fixture(scope="session")
def tdx_kernel() -> Kernel:
    return resolve("debian-source:7.3+tdx", BuildOptions(), deadline(3600, "a kernel with TDX"))
