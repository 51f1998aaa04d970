"""GDB's remote serial protocol, as far as QEMU's gdbstub speaks it: packets, stops, registers, memory, breakpoints.

Source: the GDB manual, appendix E, "Remote Protocol"; QEMU's gdbstub/gdbstub.c and gdbstub/system.c. The stub is
all-stop: when one vCPU hits a breakpoint all stand still, and a running stub listens to an interrupt only. Threads
are vCPUs: thread N is CPU N - 1.
"""

from __future__ import annotations

import re
import select
import socket
import struct
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from harness.deadline import Deadline
from harness.errors import HostFault
from harness.platform.memory import MemoryReader

_INTERRUPT = b"\x03"
_ESCAPE = 0x7D
_MUST_ESCAPE = frozenset(b"#$}*")
_MEMORY_MAX = 0x8000  # bytes in one packet; the stub takes four times as many, and two characters for each
_U64 = struct.Struct("<Q")

SIGINT, SIGQUIT, SIGTRAP = 2, 3, 5  # what stopped: an interrupt or QMP's stop; the machine's end; a breakpoint

# QEMU's gdb-xml/i386-64bit.xml: the beginning of what `g` answers.
_GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)), "rip")
_REGISTERS = struct.Struct("<17Q I 6I 3Q")  # those, eflags, cs ss ds es fs gs, fs_base gs_base k_gs_base
_NUMBER = {name: number for number, name in enumerate(_GENERAL)}
_EFLAGS_IF = 1 << 9


class GdbLost(HostFault):
    """The connection ended, or what came over it is not the protocol."""


class GdbRefused(HostFault):
    """The stub answered a command with an error, or does not know it."""


def frame(payload: bytes) -> bytes:
    """A packet: $, the payload with what must be escaped, #, and the sum of that modulo 256."""
    escaped = bytearray()
    for byte in payload:
        escaped += bytes((_ESCAPE, byte ^ 0x20)) if byte in _MUST_ESCAPE else bytes((byte,))
    return b"$%b#%02x" % (bytes(escaped), sum(escaped) & 0xFF)


class Unframer:
    """Payloads out of a stream of packets; acknowledgements between them are nothing."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the packets that are complete now. Raises GdbLost for a packet whose sum is wrong."""
        self._buffer += data
        found = []
        while (begin := self._buffer.find(b"$")) >= 0:
            end = self._buffer.find(b"#", begin)
            if end < 0 or len(self._buffer) < end + 3:
                break
            body, total = bytes(self._buffer[begin + 1 : end]), bytes(self._buffer[end + 1 : end + 3])
            if b"%02x" % (sum(body) & 0xFF) != total.lower():
                raise GdbLost("a packet of QEMU's gdbstub is damaged", found=f"{body[:80]!r} with the sum {total!r}")
            found.append(_unescaped(body))
            del self._buffer[: end + 3]
        return found


def _unescaped(body: bytes) -> bytes:
    """The payload. QEMU does not compress runs, and a `*` of its own would be escaped."""
    out = bytearray()
    escaped = False
    for byte in body:
        if escaped:
            out.append(byte ^ 0x20)
        elif byte != _ESCAPE:
            out.append(byte)
        escaped = not escaped and byte == _ESCAPE
    return bytes(out)


@dataclass(frozen=True)
class Stop:
    """Why the machine stands still, and the CPU that brought it about (0 where none did)."""

    signal: int
    cpu: int

    @classmethod
    def parse(cls, payload: str) -> Stop:
        """From a stop reply, T05thread:02;. Raises GdbLost for another: W or X, when QEMU ends."""
        match = re.fullmatch(r"(?:T|S)([0-9a-f]{2})(?:.*?thread:([0-9a-f]+);)?.*", payload)
        if match is None:
            raise GdbLost("QEMU's gdbstub ended", found=payload[:80])
        return cls(int(match[1], 16), int(match[2] or "1", 16) - 1)


@dataclass(frozen=True)
class CpuState:
    """The registers of one vCPU, by their names in the CPU's manual."""

    general: Mapping[str, int]
    eflags: int
    gs_base: int

    @classmethod
    def parse(cls, answer: str) -> CpuState:
        """From the answer to `g`. Raises GdbLost for one that is too short."""
        raw = bytes.fromhex(answer)
        if len(raw) < _REGISTERS.size:
            raise GdbLost("QEMU's gdbstub answers with too few registers", found=f"{len(raw)} bytes")
        values = _REGISTERS.unpack_from(raw)
        return cls(MappingProxyType(dict(zip(_GENERAL, values, strict=False))), values[17], values[25])

    @property
    def rip(self) -> int:
        return self.general["rip"]

    @property
    def rsp(self) -> int:
        return self.general["rsp"]

    @property
    def interrupts(self) -> bool:
        """Whether the CPU takes interrupts (EFLAGS.IF)."""
        return bool(self.eflags & _EFLAGS_IF)


class GdbRemote:
    """One connection to QEMU's gdbstub, for one thread.

    The machine either runs, then only `interrupt`, `stopped` and `close` make sense, or stands still.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        """Takes the connected socket, at which QEMU has stopped the machine. Raises GdbLost, GdbRefused."""
        self._sock = sock
        self._sock.setblocking(False)
        self._unframer = Unframer()
        self._packets: deque[str] = deque()
        self.command("qSupported", deadline)
        verbs = self.command("vCont?", deadline).split(";")
        if not {"vCont", "c", "s"} <= set(verbs):
            raise GdbRefused("QEMU's gdbstub cannot continue single CPUs", found=";".join(verbs))

    def fileno(self) -> int:
        """For select()."""
        return self._sock.fileno()

    # While the machine runs

    def interrupt(self, deadline: Deadline) -> None:
        """Asks for a stop, of which `stopped` tells. It may be for another reason that came first."""
        self._send(_INTERRUPT, deadline)

    def stopped(self, deadline: Deadline) -> Stop:
        """Waits until the machine stands still. Raises DeadlineExceeded, GdbLost."""
        return Stop.parse(self._receive(deadline, "the stop of the machine"))

    def poll(self, deadline: Deadline) -> Stop | None:
        """The same for a connection on which something has arrived, which may be an acknowledgement only."""
        self._fetch(deadline)
        return Stop.parse(self._packets.popleft()) if self._packets else None

    # While it stands still

    def command(self, text: str, deadline: Deadline) -> str:
        """The answer to a command that has one. Raises GdbRefused for E…, GdbLost, DeadlineExceeded."""
        self._send(frame(text.encode("latin-1")), deadline)
        answer = self._receive(deadline, text[:40])
        if re.fullmatch(r"E[0-9a-f]{2}", answer):
            raise GdbRefused(f"QEMU's gdbstub refuses {text[:60]}", found=answer)
        return answer

    def resume(self, cpus: Collection[int] | None, deadline: Deadline) -> None:
        """Lets these CPUs run, or all; the others stay where they are. The next stop answers it."""
        actions = ";c" if cpus is None else "".join(f";c:{cpu + 1:x}" for cpu in cpus)
        self._send(frame(f"vCont{actions}".encode()), deadline)

    def step(self, cpu: int, deadline: Deadline) -> Stop:
        """One instruction of one CPU, without interrupts; the others stay where they are."""
        self._send(frame(f"vCont;s:{cpu + 1:x}".encode()), deadline)
        return self.stopped(deadline)

    def cpus(self, deadline: Deadline) -> tuple[int, ...]:
        """The CPUs that the machine has now."""
        numbers: list[int] = []
        answer = self.command("qfThreadInfo", deadline)
        while answer.startswith("m"):
            numbers += [int(thread, 16) - 1 for thread in answer[1:].split(",")]
            answer = self.command("qsThreadInfo", deadline)
        return tuple(sorted(numbers))

    def select(self, cpu: int, deadline: Deadline) -> None:
        """Makes the CPU the one whose registers, and whose view of the memory, the commands below mean."""
        self._ok(f"Hg{cpu + 1:x}", deadline)

    def state(self, deadline: Deadline) -> CpuState:
        return CpuState.parse(self.command("g", deadline))

    def set_register(self, name: str, value: int, deadline: Deadline) -> None:
        self._ok(f"P{_NUMBER[name]:x}={_U64.pack(value).hex()}", deadline)

    def set_breakpoint(self, address: int, deadline: Deadline, *, hardware: bool) -> None:
        """On all CPUs. The stub counts them: one that is set twice must be cleared twice. Raises GdbRefused."""
        self._ok(f"Z{int(hardware)},{address:x},1", deadline)

    def clear_breakpoint(self, address: int, deadline: Deadline, *, hardware: bool) -> None:
        self._ok(f"z{int(hardware)},{address:x},1", deadline)

    def read(self, va: int, length: int, deadline: Deadline) -> bytes | None:
        """Memory at a virtual address; None where something of it is not mapped."""
        parts = []
        for begin in range(0, length, _MEMORY_MAX):
            size = min(_MEMORY_MAX, length - begin)
            try:
                parts.append(bytes.fromhex(self.command(f"m{va + begin:x},{size:x}", deadline)))
            except GdbRefused:
                return None
        return b"".join(parts)

    def write(self, va: int, data: bytes, deadline: Deadline) -> None:
        """Writes memory, read-only or not: the stub goes by the map, not by its permissions. Raises GdbRefused."""
        self._ok(f"M{va:x},{len(data):x}:{data.hex()}", deadline)

    def close(self) -> None:
        """Ends the connection; the machine stays as it is, with what breakpoints there are. Safe more than once."""
        self._sock.close()

    def _ok(self, text: str, deadline: Deadline) -> None:
        answer = self.command(text, deadline)
        if answer != "OK":
            raise GdbRefused(f"QEMU's gdbstub refuses {text[:60]}", expected="OK", found=answer or "an empty answer")

    def _send(self, data: bytes, deadline: Deadline) -> None:
        view = memoryview(data)
        while view:
            self._ready((), (self._sock,), deadline, "taking a command")
            try:
                view = view[self._sock.send(view) :]
            except OSError as error:
                raise _gone(str(error)) from error

    def _receive(self, deadline: Deadline, what: str) -> str:
        """The next packet, acknowledged: QEMU's stub sends no other before that."""
        while not self._packets:
            self._ready((self._sock,), (), deadline, what)
            self._fetch(deadline)
        return self._packets.popleft()

    def _fetch(self, deadline: Deadline) -> None:
        try:
            data = self._sock.recv(65536)
        except OSError as error:
            raise _gone(str(error)) from error
        if not data:
            raise _gone("end of file")
        for payload in self._unframer.feed(data):
            self._packets.append(payload.decode("latin-1"))
            self._send(b"+", deadline)

    def _ready(
        self,
        readers: Collection[socket.socket],
        writers: Collection[socket.socket],
        deadline: Deadline,
        what: str,
    ) -> None:
        try:
            ready = any(select.select(readers, writers, (), deadline.remaining()))
        except (OSError, ValueError) as error:  # closed by another thread
            raise _gone(str(error)) from error
        if not ready:
            raise deadline.exceeded(f"QEMU's gdbstub does not answer: {what}")


@dataclass(frozen=True)
class StoppedMemory(MemoryReader):
    """The memory of a machine that stands still, as the selected CPU sees it."""

    remote: GdbRemote
    deadline: Deadline

    def read_virtual(self, va: int, length: int) -> bytes | None:
        """`length` bytes; None where something of it is not mapped."""
        return self.remote.read(va, length, self.deadline)


def _gone(why: str) -> GdbLost:
    return GdbLost("the connection to QEMU's gdbstub ended", found=why)
