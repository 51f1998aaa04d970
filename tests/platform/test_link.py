"""The link against a peer that speaks the plugin's side of the protocol over the same socket."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import DeadlineExceeded, HostFault
from harness.platform.link import (
    FAILURE,
    CommandRefused,
    GuestMemory,
    Holding,
    LinkLost,
    Platform,
    Point,
    Probe,
)
from harness.platform.tdx import (
    Completion,
    Done,
    Fault,
    FaultRule,
    Layout,
    Memory,
    ModuleConfig,
    Registers,
    TdxModule,
    VmFailInvalid,
)
from tests.platform.peer import Peer, soon, started

LAYOUT = Layout({0: 0, 1: 0}, ((1 << 20, 127 << 20),))


class Model:
    """A TDX module that does what a test says."""

    def __init__(self, answer: Callable[[int, Registers, Memory], Completion]) -> None:
        self.summary = {"state": "ready"}
        self.seamcall = answer
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def to_json(self) -> dict[str, Any]:
        return {"made": "up"}


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform(Path("platform.so"), tmp_path, (), TdxModule(ModuleConfig(), LAYOUT)) as made:
        yield made


def with_model(platform: Platform, answer: Callable[[int, Registers, Memory], Completion]) -> Model:
    model = Model(answer)
    platform._tdx = model  # type: ignore[assignment]  # the module's interface, with answers of the test's
    return model


def test_the_set_up_describes_the_machine_and_ends_with_go(tmp_path: Path) -> None:
    with Platform(Path("/p.so"), tmp_path, ["msr * 3a 5", "msr 1 3a 1", "vmxe 1"], None) as platform:
        platform.symbol("trace_counter", 0xFFFFFFFF82000000)
        assert platform.add_probe(Probe("kvm_init", 0xFFFFFFFFC0001000, "b", (("a", "r:rdi:4"),))) == 1
        peer = started(platform)
        assert peer.commands[:4] == ["msr * 3a 5", "msr 1 3a 1", "vmxe 1", "tdx 0"]
        assert "symbol trace_counter ffffffff82000000" in peer.commands
        assert "probe 1 ffffffffc0001000 b kvm_init a=r:rdi:4" in peer.commands
        assert peer.commands[-2:] == ["boot 1", "go"]


def test_the_plugin_is_told_where_its_socket_and_its_events_are(platform: Platform, tmp_path: Path) -> None:
    plugin, words = platform.argv_words
    assert plugin == "-plugin"
    assert words == f"platform.so,fd={platform.pass_fds[0]},events={tmp_path}/platform.jsonl"


def test_another_protocol_is_refused(platform: Platform) -> None:
    Peer(platform, hello="hello 2 7 4").start()
    with pytest.raises(HostFault, match="another protocol"):
        platform.start(soon())


def test_a_refused_command_is_the_caller_s_error_and_ends_nothing(platform: Platform) -> None:
    peer = started(platform)
    peer.answers["probe"] = ["error no such register"]
    with pytest.raises(CommandRefused, match="no such register"):
        platform.add_probe(Probe("f", 1, "c", (("a", "r:xx:4"),)))
    platform.begin_boot(2, soon())
    assert peer.commands[-1] == "boot 2"


def test_a_plugin_that_does_not_answer_runs_into_the_deadline(platform: Platform) -> None:
    peer = started(platform)
    peer.answers["boot"] = None
    with pytest.raises(DeadlineExceeded, match="boot 2"):
        platform.begin_boot(2, soon(0.05))


@pytest.mark.parametrize(
    ("completion", "line"),
    [
        (Done(Registers(0xC000050500000000, 1, 2, 8, 9, 10, 11)), "done c000050500000000 1 2 8 9 a b"),
        (VmFailInvalid(), "vmfail"),
        (Fault("gp"), "fault gp"),
    ],
)
def test_a_seamcall_is_answered_by_the_model(platform: Platform, completion: Completion, line: str) -> None:
    seen: list[tuple[int, Registers]] = []

    def answer(lp: int, registers: Registers, memory: Memory) -> Completion:
        seen.append((lp, registers))
        return completion

    with_model(platform, answer)
    peer = started(platform)
    assert peer.ask("seamcall 3 21 1 2 8 9 a b") == line
    assert seen == [(3, Registers(0x21, 1, 2, 8, 9, 10, 11))]


def test_faults_that_did_not_happen_are_told(tmp_path: Path) -> None:
    faults = (FaultRule("TDH.SYS.INIT", "vmfail"), FaultRule("TDH.SYS.INIT", "gp", call=9))
    with Platform(Path("p.so"), tmp_path, (), TdxModule(ModuleConfig(faults=faults), LAYOUT)) as platform:
        assert started(platform).ask("seamcall 0 21 0 0 0 0 0 0") == "vmfail"
        assert platform.idle_faults == ["gp by TDH.SYS.INIT, call 9"]
    with Platform(Path("p.so"), tmp_path, (), None) as platform:
        assert platform.idle_faults == []


def test_the_model_reads_and_writes_the_guest_s_memory(platform: Platform) -> None:
    found: list[object] = []

    def answer(lp: int, registers: Registers, memory: Memory) -> Completion:
        found.append(memory.read(0x1000, 0x8100))
        found.append(memory.read(0x90000, 8))
        found.append(memory.write(0x5000, b"\x01\x02"))
        return Done(registers)

    with_model(platform, answer)
    peer = started(platform)
    peer.memory[0x1000] = bytes(range(256)) * 0x81
    peer.ask("seamcall 0 22 0 0 0 0 0 0")
    assert found == [bytes(range(256)) * 0x81, None, True]
    assert "read 9000 100" in peer.commands and "write 5000 0102" in peer.commands


def test_a_hook_adds_probes_while_its_vcpu_waits(platform: Platform) -> None:
    def hook(memory: GuestMemory, value: int) -> None:
        assert memory.string(value) == "kvm_intel"
        platform.add_probe(Probe("vmx_init", 0xFFFFFFFFC0000000))

    platform.add_hook(0xFFFFFFFF81234567, "rdi", hook)
    peer = started(platform)
    assert "hook 1 ffffffff81234567 rdi" in peer.commands
    peer.memory[0xFFFF888000001018] = b"kvm_intel" + bytes(64)
    assert peer.ask("hook 1 2 ffff888000001018") == "done"
    assert peer.commands[-1] == "probe 2 ffffffffc0000000 b vmx_init"


def test_commands_of_another_thread_and_requests_do_not_mix(platform: Platform) -> None:
    """Both at once, many times: every answer goes to the command that it answers."""

    def answer(lp: int, registers: Registers, memory: Memory) -> Completion:
        assert memory.read(0x1000, 4) == b"abcd"
        return Done(registers)

    with_model(platform, answer)
    peer = started(platform)
    peer.memory[0x1000] = b"abcd"
    peer.answers["state"] = ["state boot 1", "state vmx 0 1 1000 2000", "ok"]
    stop = threading.Event()
    summaries: list[dict[str, Any]] = []

    def look() -> None:
        while not stop.is_set():
            summaries.append(platform.summary(soon()))

    looker = threading.Thread(target=look)
    looker.start()
    for _ in range(200):
        assert peer.ask("seamcall 0 22 0 0 0 0 0 0") == "done 22 0 0 0 0 0 0"
    stop.set()
    looker.join(5)
    wanted = {"vmx": {"0": {"root": 1, "vmxon": "0x1000", "vmcs": "0x2000"}}, "tdx": {"state": "ready"}}
    assert summaries and all(summary == wanted for summary in summaries)


def test_the_module_goes_with_a_reset_of_vcpu_0_only(platform: Platform) -> None:
    model = with_model(platform, lambda lp, registers, memory: Done(registers))
    peer = started(platform)
    for line in ("reset 1", "reset 0", "seamcall 0 22 0 0 0 0 0 0"):
        peer.ask(line) if line.startswith("seamcall") else peer.say(line)
    assert model.resets == 1


def broken(lp: int, registers: Registers, memory: Memory) -> Completion:
    raise ZeroDivisionError("a bug of the model")


def test_a_bug_of_the_model_ends_qemu_and_is_a_host_fault(platform: Platform, tmp_path: Path) -> None:
    with_model(platform, broken)
    peer = started(platform)
    peer.say("seamcall 0 21 0 0 0 0 0 0")
    peer.join(5)
    assert not peer.is_alive(), "the plugin sees the end of the connection, and ends QEMU"
    with pytest.raises(HostFault, match="a bug of the model"):
        platform.check()
    assert "def broken" not in (tmp_path / FAILURE).read_text()
    assert "ZeroDivisionError" in (tmp_path / FAILURE).read_text()
    with pytest.raises(HostFault, match="a bug of the model"):
        platform.begin_boot(2, soon())


def test_a_command_that_waits_when_the_platform_fails_fails_with_it(platform: Platform) -> None:
    with_model(platform, broken)
    peer = started(platform)
    peer.answers["boot"] = None
    threading.Timer(0.05, peer.say, ["seamcall 0 21 0 0 0 0 0 0"]).start()
    begin = time.monotonic()
    with pytest.raises(HostFault, match="a bug of the model"):
        platform.begin_boot(2, soon())
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize("line", ["nonsense", "ok", "hook 63 0 0"])
def test_a_plugin_that_breaks_the_protocol_is_a_host_fault(platform: Platform, line: str) -> None:
    peer = started(platform)
    peer.say(line)
    peer.join(5)
    with pytest.raises(HostFault):
        platform.check()


def test_the_end_of_qemu_is_told(platform: Platform) -> None:
    peer = started(platform)
    peer.socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(LinkLost):
        platform.begin_boot(2, soon())


def test_closing_is_no_failure(platform: Platform) -> None:
    started(platform)
    platform.close()
    platform.check()


def test_a_state_is_told_to_the_next_platform(platform: Platform, tmp_path: Path) -> None:
    with_model(platform, lambda lp, registers, memory: Done(registers))
    peer = started(platform)
    peer.answers["state"] = ["state msr 1 3a 5", "state vmx 1 1 7000 0", "ok"]
    saved = platform.state(soon())
    assert saved == {"plugin": ["msr 1 3a 5", "vmx 1 1 7000 0"], "tdx": {"made": "up"}}
    with Platform(Path("p.so"), tmp_path, (), None) as other:
        other.restore({**saved, "tdx": None})
        commands = started(other).commands
        assert sequence(commands, "msr 1 3a 5", "vmx 1 1 7000 0", "go")
        assert "boot 1" not in commands, "the kernel has started already"


def sequence(lines: Sequence[str], *wanted: str) -> bool:
    """Whether `wanted` come in this order."""
    at = [lines.index(line) for line in wanted]
    return at == sorted(at)


def test_a_point_is_told_where_it_is_and_tells_who_is_held(platform: Platform) -> None:
    notices: list[Holding | None] = []
    peer = started(platform)
    point = Point("in-load", "r", 123, "cpuhp/1", 1, 2, (("r:rdi:4", 0xFFFFFFFE), ("d:rsi:8:40s", b"kvm")))
    number = platform.add_point(point, notices.append)
    platform.place_point(number, (0x1000, 0x2000))
    platform.place_point(number, ())
    told = f"point {number:x} r in-load 7b 63707568702f31 1 2 r:rdi:4=fffffffe d:rsi:8:40s=6b766d"
    assert peer.commands[-3:] == [told, f"place {number:x} 1000 2000", f"place {number:x}"]
    peer.say(f"held {number:x} 1 19 2 0 63707568702f31")
    peer.say(f"lost {number:x}")
    platform.begin_boot(2, soon())  # by its answer they have come
    platform.remove_point(number)
    peer.say(f"held {number:x} 0 1 0 1 -")  # it met with the command on its way
    platform.begin_boot(3, soon())
    assert notices == [Holding(1, 0x19, 2, False, "cpuhp/1"), None]
    assert peer.commands[-2] == f"unpoint {number:x}"
    assert Point("any").words == "c any 0 - - 1"
