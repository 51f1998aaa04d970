"""GDB's remote protocol: its packets as they are, and a conversation with a stub that says what QEMU's does."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded
from harness.probes.gdb_remote import (
    SIGINT,
    SIGTRAP,
    CpuState,
    GdbLost,
    GdbRefused,
    GdbRemote,
    Stop,
    StoppedMemory,
    Unframer,
    frame,
)

PAYLOADS = st.lists(st.binary(max_size=40), max_size=6)
MEMORY = {0x1000: b"kvm\0" + bytes(60), 0x1040: bytes(64)}


def soon() -> Deadline:
    return Deadline.after(5, "this test")


# --- packets ------------------------------------------------------------------------------------------------------


@given(PAYLOADS, st.data())
def test_what_was_framed_comes_out_however_the_stream_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"+".join(frame(payload) for payload in payloads) + b"+"
    unframer, found = Unframer(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += unframer.feed(stream[:size])
        stream = stream[size:]
    assert found == payloads


def test_frames_as_in_the_manual() -> None:
    assert frame(b"vCont?") == b"$vCont?#49"
    assert frame(b"a}b") == b"$a}]b#9d"  # 0x7d is escaped by itself and 0x5d


@given(st.binary(min_size=1, max_size=20), st.data())
def test_a_damaged_packet_is_never_taken_for_a_good_one(payload: bytes, data: st.DataObject) -> None:
    packet = bytearray(frame(payload))
    at = data.draw(st.integers(1, len(packet) - 4))
    packet[at] ^= data.draw(st.sampled_from((1, 2, 4, 8)))  # another byte, with another sum
    with contextlib.suppress(GdbLost):  # unless the damage made a # or a $, and the packet never ends
        assert Unframer().feed(bytes(packet)) == []


@pytest.mark.parametrize(
    ("payload", "stop"),
    [
        ("T05thread:02;", Stop(SIGTRAP, 1)),
        ("T02thread:01;", Stop(SIGINT, 0)),
        ("T05watch:ffff8880;thread:0a;", Stop(SIGTRAP, 9)),
        ("S05", Stop(SIGTRAP, 0)),
    ],
)
def test_stops_have_a_reason_and_a_cpu(payload: str, stop: Stop) -> None:
    assert Stop.parse(payload) == stop


def test_the_end_of_qemu_is_no_stop() -> None:
    with pytest.raises(GdbLost, match="ended"):
        Stop.parse("W00")


def test_registers_by_name() -> None:
    raw = struct.pack("<17QI6I3Q", *range(100, 117), 0x246, *range(6), 1, 0xFFFF888000000000, 3) + bytes(100)
    state = CpuState.parse(raw.hex())
    assert (state.general["rax"], state.general["rdi"], state.general["r8"]) == (100, 105, 108)
    assert (state.rsp, state.rip, state.gs_base) == (107, 116, 0xFFFF888000000000)
    assert state.interrupts and not CpuState.parse(raw[:136].hex() + "46000000" + raw[140:].hex()).interrupts
    with pytest.raises(GdbLost, match="too few"):
        CpuState.parse("00" * 100)


# --- a conversation -----------------------------------------------------------------------------------------------


def answer(text: str) -> str | None:
    """What QEMU's stub says to a command; None for what is answered by a later stop."""
    if text.startswith("m"):
        address, length = (int(word, 16) for word in text[1:].split(","))
        page = next((at for at, data in MEMORY.items() if at <= address and address + length <= at + len(data)), None)
        return "E14" if page is None else MEMORY[page][address - page : address - page + length].hex()
    answers = {
        "qSupported": "PacketSize=20020",
        "vCont?": "vCont;c;C;s;S",
        "qfThreadInfo": "m01,02",
        "qsThreadInfo": "l",
        "Hg2": "OK",
        "Z1,ffffffff81000000,1": "E22",
        "P10=00000081ffffffff": "OK",
        "M1000,2:eb2a": "OK",
    }
    return None if text.startswith("vCont;") else answers.get(text, "")


class Peer:
    """The other end of a connection."""

    def __init__(self, sock: socket.socket, says: Callable[[str], str | None]) -> None:
        self.sock = sock
        self.heard: list[str] = []
        self._says = says
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        unframer = Unframer()
        while data := self.sock.recv(4096):
            if b"\x03" in data:
                self.stop("T02thread:01;")
            for payload in unframer.feed(data):
                self.heard.append(payload.decode())
                said = self._says(payload.decode())
                self.sock.sendall(b"+" + (b"" if said is None else frame(said.encode())))

    def stop(self, reply: str) -> None:
        self.sock.sendall(frame(reply.encode()))


@contextlib.contextmanager
def connected(says: Callable[[str], str | None] = answer) -> Iterator[tuple[GdbRemote, Peer]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = Peer(theirs, says)
        try:
            yield GdbRemote(ours, soon()), peer
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            peer.thread.join(5)


def test_a_stub_that_cannot_continue_single_cpus_is_refused() -> None:
    with (
        pytest.raises(GdbRefused, match="single CPUs"),
        connected(lambda text: "vCont;c" if text == "vCont?" else answer(text)),
    ):
        pass


def test_cpus_are_threads_less_one() -> None:
    with connected() as (remote, peer):
        assert remote.cpus(soon()) == (0, 1)
        remote.select(1, soon())
        remote.resume((0, 2), soon())
        remote.resume(None, soon())
        remote.interrupt(soon())
        assert remote.stopped(soon()) == Stop(SIGINT, 0)
    assert peer.heard[-3:] == ["Hg2", "vCont;c:1;c:3", "vCont;c"]


def test_an_acknowledgement_is_no_stop() -> None:
    with connected() as (remote, peer):
        remote.resume(None, soon())
        select.select([remote.fileno()], [], [], 5)
        assert remote.poll(soon()) is None
        peer.stop("T05thread:02;")
        assert remote.stopped(soon()) == Stop(SIGTRAP, 1)


def test_memory_that_is_not_mapped_is_none() -> None:
    with connected() as (remote, _):
        memory = StoppedMemory(remote, soon())
        assert memory.string(0x1000) == "kvm"
        assert memory.u64(0x1000) == int.from_bytes(b"kvm", "little")
        assert memory.u64(0x2000) is None and memory.string(0x2000) is None
        remote.write(0x1000, b"\xeb\x2a", soon())


def test_a_string_is_read_up_to_the_end_of_its_page_only() -> None:
    with connected() as (remote, peer):
        StoppedMemory(remote, soon()).string(0x1002)
    assert peer.heard[-1] == "m1002,3e"


def test_what_the_stub_refuses_or_does_not_know() -> None:
    with connected() as (remote, _):
        with pytest.raises(GdbRefused, match="E22"):
            remote.set_breakpoint(0xFFFFFFFF81000000, soon(), hardware=True)
        with pytest.raises(GdbRefused, match="empty answer"):
            remote.set_breakpoint(0xFFFFFFFF81000000, soon(), hardware=False)
        remote.set_register("rip", 0xFFFFFFFF81000000, soon())


def test_no_answer_ends_with_the_deadline() -> None:
    with connected() as (remote, _), pytest.raises(DeadlineExceeded, match="does not answer"):
        remote.stopped(Deadline.after(0.05, "a stop"))


def test_the_end_of_the_connection_is_told() -> None:
    with connected() as (remote, peer):
        peer.sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(GdbLost, match="connection"):
            remote.stopped(soon())
