"""The plugin: its parts as host programs under sanitizers, and the whole of it in QEMU, at the other end of a socket.

QEMU runs firmware only: SeaBIOS executes the reset vector, RDMSR and WRMSR, and starts the other CPUs.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness import process
from harness.deadline import Deadline
from harness.machine import toolchain
from harness.platform import build

C = Path(__file__).parent / "c"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-pthread")
FUZZ_MS = 2000

CPU = "max,vendor=GenuineIntel,family=6,vmx=on,x-force-features=on,svm=off"
LINK_EXIT = 70  # harness/platform/plugin/link.h
RESET_VECTOR = 0xFFFFFFF0


def _soon(seconds: float = 120) -> Deadline:
    return Deadline.after(seconds, "a test")


def _program(name: str, folder: Path) -> Path:
    """The host program of that name, with all of the plugin but its glue to QEMU."""
    glue = {"plugin.c", "command.c", "request.c", "link.c"}
    parts = [path for path in build.sources() if path.name not in glue]
    program = folder / name
    build.compile_c([C / f"{name}.c", *parts], program, _soon(), flags=SANITIZERS)
    return program


@pytest.mark.parametrize("name", ["test_x86", "test_vmx", "test_probe", "test_point"])
def test_part(name: str, tmp_path: Path) -> None:
    process.run([_program(name, tmp_path)], _soon())


def test_decoder_on_random_bytes(tmp_path: Path) -> None:
    seed = time.time_ns()
    output = process.run([_program("fuzz_x86", tmp_path), str(seed), str(FUZZ_MS)], _soon())
    assert int(output.split()[0]) > 1000, f"seed {seed}: {output}"


@dataclass
class Firmware:
    """A QEMU that runs firmware with the plugin, and our end of its socket."""

    process: subprocess.Popen[bytes]
    link: socket.socket
    folder: Path
    buffer: bytes = b""

    def line(self, seconds: float = 30) -> str:
        self.link.settimeout(seconds)
        while b"\n" not in self.buffer:
            received = self.link.recv(1 << 16)
            assert received, f"the plugin closed the link; {self.stderr}"
            self.buffer += received
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def send(self, *lines: str) -> None:
        self.link.sendall("".join(f"{line}\n" for line in lines).encode())

    def command(self, line: str) -> str:
        self.send(line)
        return self.line()

    def lines_until(self, last: str) -> list[str]:
        lines = [self.line()]
        while lines[-1] != last:
            lines.append(self.line())
        return lines

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "platform.jsonl").read_text().splitlines()]

    def ended(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)


@pytest.fixture
def firmware(tmp_path: Path) -> Iterator[Firmware]:
    ours, theirs = socket.socketpair()
    qemu = toolchain.find(_soon())
    plugin = f"{build.plugin(qemu.version, _soon())},fd={theirs.fileno()},events={tmp_path}/platform.jsonl"
    machine = ("-nodefaults", "-no-user-config", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", CPU)
    shape = ("-smp", "2,maxcpus=3", "-m", "64", "-display", "none", "-plugin", plugin)
    with (tmp_path / "stderr").open("wb") as stderr, ours:
        child = subprocess.Popen(
            [*qemu.argv_prefix, *machine, *shape],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        theirs.close()
        guest = Firmware(child, ours, tmp_path)
        try:
            assert guest.line() == "hello 1 7 3"
            yield guest
        finally:
            child.kill()
            child.wait()


WRONG = (
    "",
    "nonsense",
    "msr",
    "msr 3 3a 5",
    "msr * 3a 5 6",
    "msr * 3A 5",
    "msr * 3a -5",
    "msr * 3a 11112222333344445",
    "msr_now 0 1234 5",
    "tdx 2",
    "vmxe 9",
    "vmxe_taken *",
    "without_vmx 3",
    "symbol unknown 1",
    "offset task_comm",
    "probe 1 0 b f",
    "probe 1 1000 x f",
    "probe 1 1000 b " + "f" * 64,
    "probe 1 1000 b f a",
    "probe 1 1000 b f a=r:rdi",
    "probe 1 1000 b f a=r:rdi:3",
    "probe 1 1000 b f a=r:edi:4",
    "probe 1 1000 b f a=d:rdi:4",
    "probe 1 1000 b f a=m:zz:4",
    "probe 1 1000 b f a=r:rdi:41s",
    "probe 1 1000 b f " + " ".join(f"a{i}=r:rdi:8" for i in range(9)),
    "unprobe 7",
    "hook 1 1000 nope",
    "point 1 c p 0 - -",
    "point 1 b p 0 - - 1",
    "point 1 c p 0 - - 0",
    "point 1 c p 0 7g - 1",
    "point 1 c p 0 " + "41" * 16 + " - 1",
    "point 1 c p 0 - x 1",
    "point 1 c p 0 - - 1 r:rdi:4",
    "point 1 c p 0 - - 1 r:rdi:3=1",
    "point 1 c p 0 - - 1 r:rdi:40s=4g",
    "point 1 c p 0 - - 1 " + " ".join(["r:rdi:8=1"] * 5),
    "place",
    "place 1 0",
    "place 1 zz",
    "place 1 " + " ".join(["1000"] * 9),
    "unpoint",
    "vmx 3 1 0 0",
    "gp 3 0 0 0 0",
    "gp 0 0 0 0",
    "boot",
    "x " * 100,
    "\x00\xff" * 10,
)


@pytest.mark.boot
class TestSetUp:
    def test_a_wrong_command_is_refused_with_its_reason(self, firmware: Firmware) -> None:
        answers = {line: firmware.command(line) for line in WRONG}
        taken = [line for line, answer in answers.items() if not answer.startswith("error ") or len(answer) < 10]
        assert taken == []
        assert firmware.command("tdx 0") == "ok"

    def test_a_boot_that_was_announced_can_be_taken_back(self, firmware: Firmware) -> None:
        def announced() -> list[str]:
            firmware.send("state")
            return [line for line in firmware.lines_until("ok") if line.startswith("state boot")]

        assert firmware.command("boot 5") == "ok"
        assert announced() == ["state boot 5"]
        assert firmware.command("boot 0") == "ok"
        assert announced() == []

    def test_what_was_said_is_the_state(self, firmware: Firmware) -> None:
        said = ["tdx 1", "msr 1 3a 5", "msr_now 1 3a 1", "vmx 2 1 1000 2000", "incarnation 3 1", "seq 11"]
        said += [
            "without_vmx 2",
            "vmxe 0",
            "vmxe 1",
            "vmxe_taken 1",
            "gp 0 ffffffff81000000 0 0 0",
            "gp 2 0 0 ffffffff81000000 1f8",
        ]
        for line in said:
            assert firmware.command(line) == "ok"
        firmware.send("state")
        state = firmware.lines_until("ok")
        assert {f"state {line}" for line in said} <= set(state)
        assert f"state vmx 0 0 {'f' * 16} {'f' * 16}" in state
        assert "state vmxe_taken 0" not in state

    def test_points_come_go_and_may_be_gone_already(self, firmware: Firmware) -> None:
        wanted = "point 1 r in-load 7b 6d6f6470726f6265 1 2 r:rdi:4=fffffffe d:rsi:8:40s=6b766d m:1000:8=0"
        for line in (wanted, "place 1 1000 2000", "place 1", "unpoint 1", "unpoint 1", "place 1 1000"):
            assert firmware.command(line) == "ok"

    def test_some_commands_are_for_the_set_up_only(self, firmware: Firmware) -> None:
        assert firmware.command("go") == "ok"
        assert firmware.line() == "reset 0"
        for line in ("vmx 0 0 0 0", "seq 1", "incarnation 1 1", "go"):
            assert firmware.command(line) == f"error {line.split()[0]}: only before `go`"


def _go(firmware: Firmware, *setup: str) -> None:
    """Finishes the set-up."""
    for line in (*setup, "go"):
        assert firmware.command(line) == "ok"


@pytest.mark.boot
class TestFirmware:
    def test_reset_and_startup_of_the_other_cpu(self, firmware: Firmware) -> None:
        _go(firmware, "vmx 1 1 1000 2000")
        assert firmware.line() == "reset 0"
        deadline = _soon(60)
        while not any(event["name"] == "sipi" for event in firmware.events):
            deadline.check()
            deadline.pause(0.05)
        resets = [(event["cpu"], event["args"]) for event in firmware.events if event["name"] == "cpu_reset"]
        assert resets == [(0, {"root": 0}), (1, {"root": 1})]
        assert next(event["cpu"] for event in firmware.events if event["name"] == "sipi") == 1
        assert [event["seq"] for event in firmware.events] == list(range(len(firmware.events)))
        firmware.send("state")
        assert f"state vmx 1 0 {'f' * 16} {'f' * 16}" in firmware.lines_until("ok")

    def test_a_gp_that_is_due_does_not_outlive_a_reset(self, firmware: Firmware) -> None:
        _go(firmware, *(f"gp {cpu} 0 0 ffffffff81000000 1f8" for cpu in (0, 1)))
        assert firmware.line() == "reset 0"
        firmware.send("state")
        assert not [line for line in firmware.lines_until("ok") if line.startswith("state gp ")]

    def test_what_firmware_sets_is_set_again_at_reset(self, firmware: Firmware) -> None:
        _go(firmware, "msr 0 1234 5", "msr_now 0 1234 6", "vmxe 0", "vmxe_taken 0")
        assert firmware.line() == "reset 0"
        firmware.send("state")
        state = firmware.lines_until("ok")
        assert {"state vmxe 0", "state msr 0 1234 5"} <= set(state)
        assert not [line for line in state if "vmxe_taken" in line or "msr_now" in line]

    def test_a_hook_holds_the_cpu_while_memory_is_read_and_written(self, firmware: Firmware) -> None:
        _go(firmware, f"hook 1 {RESET_VECTOR:x} rdx")
        assert firmware.line() == "reset 0"
        number, cpu, _ = (int(word, 16) for word in firmware.line().removeprefix("hook ").split())
        assert (number, cpu) == (1, 0)
        assert firmware.command("write 1000 00ff10") == "ok"
        assert firmware.command("read 1000 3") == "data 00ff10"
        assert firmware.command("read 0 10001") == "data -"  # more than fits into a line
        assert firmware.command("read 7f000000 8") == "data -"  # no RAM there
        assert firmware.command("write 1000 0g").startswith("error")
        assert firmware.command("probe 1 7c00 c boot_sector") == "ok"
        firmware.send("done")
        assert firmware.command("tdx 0") == "ok"  # by the reader thread again

    def test_a_command_right_behind_an_answer_is_executed(self, firmware: Firmware) -> None:
        """The vCPU that reads the answer has the command in its hands too; nothing else may come for long."""
        _go(firmware, f"hook 1 {RESET_VECTOR:x} rdx")
        assert [firmware.line().split()[0] for _ in range(2)] == ["reset", "hook"]
        firmware.send("done", "tdx 0")
        assert firmware.line(10) == "ok"

    def test_probes_work_from_the_instruction_that_they_were_added_at(self, firmware: Firmware) -> None:
        """The reset vector jumps to f000:e05b; a hook at the one adds a probe on the other."""
        _go(firmware, f"hook 1 {RESET_VECTOR:x} rdx")
        assert [firmware.line().split()[0] for _ in range(2)] == ["reset", "hook"]
        assert firmware.command("probe 5 fe05b c entry cs=r:cs:2 text=m:fffffff0:8s") == "ok"
        firmware.send("done")
        deadline = _soon(60)
        while not [event for event in firmware.events if event["name"] == "entry"]:
            deadline.check()
            deadline.pause(0.05)
        entry = next(event for event in firmware.events if event["name"] == "entry")
        assert (entry["phase"], entry["cpu"], entry["args"]["cs"]) == ("call", 0, "0xf000")

    def test_feat_ctl_is_locked_by_firmware_once(self, firmware: Firmware) -> None:
        _go(firmware, "msr * 3a 0")
        deadline = _soon(60)
        while len([event for event in firmware.events if event["name"] == "wrmsr"]) < 2:
            deadline.check()
            deadline.pause(0.05)
        written = {event["cpu"]: event["args"] for event in firmware.events if event["name"] == "wrmsr"}
        assert written == {cpu: {"msr": "0x3a", "value": "0x5"} for cpu in (0, 1)}

    def test_what_firmware_writes_to_a_locked_feat_ctl_is_dropped_and_told(self, firmware: Firmware) -> None:
        _go(firmware, "msr * 3a 1", "without_vmx 1")
        deadline = _soon(60)
        while len([event for event in firmware.events if event["name"] == "wrmsr"]) < 2:
            deadline.check()
            deadline.pause(0.05)
        written = {event["cpu"]: event["args"] for event in firmware.events if event["name"] == "wrmsr"}
        assert written == {cpu: {"msr": "0x3a", "value": "0x5", "dropped": 1} for cpu in (0, 1)}
        firmware.send("state")
        assert not [line for line in firmware.lines_until("ok") if "msr_now" in line]


@pytest.mark.boot
class TestTheHarnessFails:
    """Whatever the other end does, QEMU ends, with a reason on stderr: no guest waits unseen."""

    def test_gone_in_the_set_up(self, firmware: Firmware) -> None:
        firmware.link.close()
        assert firmware.ended() == LINK_EXIT
        assert "platform: the harness closed the link" in firmware.stderr

    def test_gone_while_the_guest_runs(self, firmware: Firmware) -> None:
        _go(firmware)
        firmware.link.close()
        assert firmware.ended() == LINK_EXIT
        assert "platform: " in firmware.stderr

    def test_gone_while_a_cpu_waits(self, firmware: Firmware) -> None:
        _go(firmware, f"hook 1 {RESET_VECTOR:x} rdx")
        assert [firmware.line().split()[0] for _ in range(2)] == ["reset", "hook"]
        firmware.link.close()
        assert firmware.ended() == LINK_EXIT

    def test_silent_while_a_cpu_waits(self, firmware: Firmware) -> None:
        _go(firmware, f"hook 1 {RESET_VECTOR:x} rdx")
        assert firmware.ended() == LINK_EXIT
        assert "platform: the harness did not answer `hook` of vCPU 0 within 10 s" in firmware.stderr

    def test_silent_in_the_set_up(self, firmware: Firmware) -> None:
        assert firmware.ended() == LINK_EXIT
        assert "did not finish the set-up with `go` within 15 s" in firmware.stderr

    def test_an_answer_that_is_none(self, firmware: Firmware) -> None:
        _go(firmware, f"hook 1 {RESET_VECTOR:x} rdx")
        assert [firmware.line().split()[0] for _ in range(2)] == ["reset", "hook"]
        firmware.send("done 1 2 3")
        assert firmware.ended() == LINK_EXIT
        assert "platform: not an answer to a hook: `done 1 2 3`" in firmware.stderr

    def test_a_line_without_end(self, firmware: Firmware) -> None:
        _go(firmware)
        with contextlib.suppress(OSError):
            firmware.link.sendall(os.urandom(1 << 20).replace(b"\n", b" "))
        assert firmware.ended() == LINK_EXIT
        assert "a line of more than" in firmware.stderr

    def test_noise_is_answered_line_by_line(self, firmware: Firmware) -> None:
        _go(firmware)
        assert firmware.line() == "reset 0"
        noise = os.urandom(1 << 14).replace(b"\n", b" ").replace(b"\0", b" ")
        lines = [noise[at : at + 100] for at in range(0, len(noise), 100)]
        for line in lines:
            firmware.link.sendall(line + b"\n")
        assert all(firmware.line().startswith("error ") for _ in lines)
