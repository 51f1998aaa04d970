"""The harness's end of the socket to the plugin that emulates the platform.

ASCII lines, one answer to each command, in order; between them the plugin's own requests, each of which a vCPU waits
for:

    harness → plugin    msr, tdx, vmxe, symbol, offset, probe, unprobe, hook, point, place, unpoint, boot, state, vmx,
                        seq, go
    plugin → harness    hello, seamcall, hook, reset, held, lost
    in answer to those  read, readv, write, every command, then done, vmfail or fault

What fails here must not leave a vCPU waiting: the socket is closed, at which the plugin ends QEMU, the traceback goes
to the run's folder, and `check` raises it as a HostFault.
"""

from __future__ import annotations

import collections
import contextlib
import select
import socket
import struct
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from harness.deadline import Deadline
from harness.errors import HostFault
from harness.platform.memory import MemoryReader
from harness.platform.tdx import Done, Fault, Registers, TdxModule

PROTOCOL = 1
EVENTS = "platform.jsonl"  # in the run's folder, written by the plugin
FAILURE = "platform-failure.txt"  # likewise, by this module

_SEND_S = 10.0  # for the plugin to take what is sent; it reads in a thread of its own
_ANSWER_S = 10.0  # for its answers while it waits for ours; the plugin waits as long
_CLOSE_S = 5.0
_CHUNK = 32768  # bytes of guest memory in one line; the plugin takes twice as many

# What the plugin answers to a command ends with one of these.
_LAST_WORDS = ("ok", "error", "data")


class LinkLost(HostFault):
    """The plugin, or QEMU with it, is gone."""


@dataclass(frozen=True)
class Probe:
    """A place in the kernel whose execution is an event.

    `phases`: c for the call, r for the return, b for both. `args` are (name, spec), specs as the protocol has them:
    r:REG:SIZE, m:ADDRESS:SIZE, d:REG:OFFSET:SIZE.
    """

    name: str
    address: int
    phases: Literal["c", "r", "b"] = "b"
    args: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> str:
        return " ".join(
            [f"{self.address:x}", self.phases, self.name, *(f"{name}={spec}" for name, spec in self.args)]
        )


@dataclass(frozen=True)
class Point:
    """An execution of a function at which one task is held; where the function is, is told by `place_point`.

    `phase` is c for the call, r for the return. `hit` counts, from 1, the executions that pass all of the filters:
    `pid` (a task or its descendants; 0 for any), `comm`, `cpu`, and `conditions`: (spec, value), where the spec is
    one of a probe's and the value of a string its bytes.
    """

    name: str
    phase: Literal["c", "r"] = "c"
    pid: int = 0
    comm: str = ""
    cpu: int | None = None
    hit: int = 1
    conditions: tuple[tuple[str, int | bytes], ...] = ()

    @property
    def words(self) -> str:
        filters = (
            f"{self.pid:x}",
            self.comm.encode().hex() or "-",
            "-" if self.cpu is None else f"{self.cpu:x}",
            f"{self.hit:x}",
        )
        conditions = (
            f"{spec}={value.hex() if isinstance(value, bytes) else format(value, 'x')}"
            for spec, value in self.conditions
        )
        return " ".join((self.phase, self.name, *filters, *conditions))


@dataclass(frozen=True)
class Holding:
    """A task that is held: on which CPU it came there, and with what."""

    cpu: int
    pid: int
    preempt_count: int
    interrupts: bool
    comm: str


@dataclass
class _Answer:
    """What a command waits for."""

    command: str
    lines: list[str] = field(default_factory=list)
    error: str = ""
    failed: bool = False  # no answer will come
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class GuestMemory(MemoryReader):
    """The guest's memory, as long as a request of the plugin is being answered."""

    platform: Platform

    def read(self, pa: int, length: int) -> bytes | None:
        """`length` bytes at the physical address, or None where there is no RAM."""
        return self._read("read", pa, length)

    def read_virtual(self, va: int, length: int) -> bytes | None:
        """The same at a virtual address of the vCPU that waits; None where nothing is mapped."""
        return self._read("readv", va, length)

    def write(self, pa: int, data: bytes) -> bool:
        """Whether all of `data` could be written to the physical address."""
        for begin in range(0, len(data), _CHUNK):
            chunk = data[begin : begin + _CHUNK]
            try:
                self.platform.command(f"write {pa + begin:x} {chunk.hex()}", _soon())
            except CommandRefused:
                return False
        return True

    def _read(self, verb: str, address: int, length: int) -> bytes | None:
        parts = []
        for begin in range(0, length, _CHUNK):
            size = min(_CHUNK, length - begin)
            (line,) = self.platform.command(f"{verb} {address + begin:x} {size:x}", _soon())
            hexadecimal = line.removeprefix("data ")
            if hexadecimal == "-":
                return None
            parts.append(bytes.fromhex(hexadecimal))
        return b"".join(parts)


class CommandRefused(HostFault):
    """The plugin answered `error`."""


# Called by the platform's thread while a vCPU waits at the hook: with the guest's memory and the register's value.
Hook = Callable[[GuestMemory, int], None]


# Called by the platform's thread when a task is held at the point, and with None when a reset took it. To be quick.
Notice = Callable[[Holding | None], None]


class Platform:
    """The emulated platform of one QEMU, from its set-up to its end.

        platform = Platform(plugin, run, setup, tdx)
        QEMU with platform.argv_words, inheriting platform.pass_fds
        platform.start(deadline)      # QEMU waits for it before it makes the machine
        …
        platform.close()

    Probes, hooks, symbols and offsets may be given before `start`, and while the guest runs.
    """

    def __init__(self, plugin: Path, run: Path, setup: Iterable[str], tdx: TdxModule | None) -> None:
        """`plugin` is the shared object, `run` an existing folder, `setup` the commands that describe the CPUs.

        `tdx` answers SEAMCALLs; without one they raise #UD.
        """
        self._plugin = plugin
        self._run = run.absolute()
        self._tdx = tdx
        self._model = threading.Lock()  # the model is called by the serving thread, and looked at by others
        self._setup = [*setup, f"tdx {int(tdx is not None)}"]
        self._hooks: dict[int, Hook] = {}
        self._points: dict[int, Notice] = {}
        self._ids = 0
        self._ours, self._plugins = socket.socketpair()
        self._buffer = b""
        self._answers: collections.deque[_Answer] = collections.deque()
        self._sending = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failure: HostFault | None = None
        self._closing = False
        self._restored = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # QEMU's side

    @property
    def argv_words(self) -> tuple[str, ...]:
        """The arguments that give QEMU the plugin."""
        events = str(self._run / EVENTS).replace(",", ",,")
        return ("-plugin", f"{self._plugin},fd={self._plugins.fileno()},events={events}")

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """The descriptors that QEMU must inherit."""
        return (self._plugins.fileno(),)

    # From start to end

    def start(self, deadline: Deadline) -> None:
        """Greets the plugin of the QEMU that was just started, sends the set-up, and begins to serve.

        Raises LinkLost when QEMU ends meanwhile, HostFault for a plugin of another protocol, CommandRefused.
        """
        self._plugins.close()  # QEMU has its own: ours would keep the connection open after its end
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(_SEND_S), 0))
        hello = self._read_line(deadline).split()
        if hello[:2] != ["hello", f"{PROTOCOL:x}"]:
            raise HostFault(
                "the plugin speaks another protocol", expected=f"hello {PROTOCOL:x}", found=" ".join(hello)
            )
        self._thread = threading.Thread(target=self._serve, name="platform", daemon=True)
        self._thread.start()
        first = () if self._restored else ("boot 1",)
        for line in (*self._setup, *first, "go"):
            self.command(line, deadline)

    def close(self) -> None:
        """Ends the conversation; the plugin then ends a QEMU that still runs. Safe more than once."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)
        self._ours.close()
        self._plugins.close()

    def check(self) -> None:
        """Raises the HostFault that ended the platform, if one did."""
        if self._failure is not None:
            raise self._failure

    # What it is told

    def symbol(self, name: str, address: int, deadline: Deadline | None = None) -> None:
        """Tells where trace_counter, current_task or kernel_start is."""
        self._tell(f"symbol {name} {address:x}", deadline)

    def offset(self, name: str, value: int, deadline: Deadline | None = None) -> None:
        """Tells where in task_struct task_comm or task_pid is."""
        self._tell(f"offset {name} {value:x}", deadline)

    def add_probe(self, probe: Probe, deadline: Deadline | None = None) -> int:
        """Adds a probe, also while the guest runs; returns the number that `remove_probe` takes.

        Raises CommandRefused for one that the plugin cannot do. `deadline` may only be left out before `start`.
        """
        number = self._number()
        self._tell(f"probe {number:x} {probe.words}", deadline)
        return number

    def remove_probe(self, number: int, deadline: Deadline | None = None) -> None:
        """Removes a probe."""
        self._tell(f"unprobe {number:x}", deadline)

    def add_hook(self, address: int, register: str, hook: Hook, deadline: Deadline | None = None) -> None:
        """Calls `hook` whenever a vCPU is about to execute `address`; the vCPU waits for it."""
        number = self._number()
        self._hooks[number] = hook
        self._tell(f"hook {number:x} {address:x} {register}", deadline)

    def add_point(self, point: Point, notice: Notice, deadline: Deadline | None = None) -> int:
        """Adds a point, which is nowhere yet; returns the number that `place_point` and `remove_point` take.

        A reset takes with it the point whose task was held, and those for a process.
        """
        number = self._number()
        self._points[number] = notice
        self._tell(f"point {number:x} {point.words}", deadline)
        return number

    def place_point(self, number: int, addresses: Iterable[int], deadline: Deadline | None = None) -> None:
        """Says where the point's function is now: at these addresses only. No error for a point that a reset took."""
        self._tell(" ".join((f"place {number:x}", *(f"{address:x}" for address in addresses))), deadline)

    def remove_point(self, number: int, deadline: Deadline | None = None) -> None:
        """Disarms the point and lets go who is held there, in one step. No error for a point that a reset took."""
        self._points.pop(number, None)
        self._tell(f"unpoint {number:x}", deadline)

    def begin_boot(self, number: int, deadline: Deadline) -> None:
        """The next start of a kernel is boot `number`; 0: it is of the present boot, as a crash kernel is."""
        self.command(f"boot {number:x}", deadline)

    # What it knows

    def state(self, deadline: Deadline) -> dict[str, Any]:
        """All that the platform must be told again for a machine restored from a snapshot, as JSON data."""
        with self._model:
            tdx = None if self._tdx is None else self._tdx.to_json()
        return {"plugin": self._state_lines(deadline), "tdx": tdx}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Before `start`: begins where `state` was taken. Probes and hooks are not part of it."""
        assert self._thread is None, "a platform is restored before its start"
        self._restored = True
        self._setup += state["plugin"]
        if state["tdx"] is not None:
            self._tdx = TdxModule.from_json(state["tdx"])

    def summary(self, deadline: Deadline) -> dict[str, Any]:
        """What a sample says of it: per vCPU whether it is in VMX operation, and how far the TDX module is."""
        vmx = {}
        for line in self._state_lines(deadline):
            verb, *words = line.split()
            if verb == "vmx":
                cpu, root, vmxon, vmcs = (int(word, 16) for word in words)
                vmx[str(cpu)] = {"root": root, "vmxon": f"{vmxon:#x}", "vmcs": f"{vmcs:#x}"}
        with self._model:
            tdx = None if self._tdx is None else self._tdx.summary
        return {"vmx": vmx, "tdx": tdx}

    @property
    def idle_faults(self) -> list[str]:
        """The faults of the TDX module that were asked for and did not happen, as text."""
        with self._model:
            return [] if self._tdx is None else [rule.text for rule in self._tdx.idle_faults]

    def _state_lines(self, deadline: Deadline) -> list[str]:
        lines = self.command("state", deadline)
        return [line.removeprefix("state ") for line in lines if line.startswith("state ")]

    # Commands

    def _number(self) -> int:
        self._ids += 1
        return self._ids

    def _tell(self, line: str, deadline: Deadline | None) -> None:
        if self._thread is None:
            self._setup.append(line)
        else:
            self.command(line, deadline or _soon())

    def command(self, line: str, deadline: Deadline) -> Sequence[str]:
        """Sends a command and returns the lines of its answer.

        Raises CommandRefused, LinkLost, DeadlineExceeded; and what ended the platform.
        """
        answer = _Answer(line)
        with self._sending:
            self.check()
            self._answers.append(answer)
            self._send(line)
        if threading.current_thread() is self._thread:
            while not answer.done.is_set():
                self._dispatch(self._read_line(deadline))
        elif not answer.done.wait(deadline.remaining()):
            raise deadline.exceeded(f"no answer from the plugin to: {line[:200]}")
        if answer.failed:
            self.check()
            raise _lost(line)
        if answer.error:
            raise CommandRefused("the plugin refuses a command", found=f"{line[:200]}: {answer.error}")
        return answer.lines

    def _send(self, line: str) -> None:
        try:
            self._ours.sendall(line.encode() + b"\n")
        except OSError as error:
            raise _lost(line) from error

    # The serving thread

    def _serve(self) -> None:
        try:
            while True:
                self._dispatch(self._read_line(None))
        except LinkLost as error:
            self._end(None if self._closing else error)
        except Exception as error:
            text = traceback.format_exc()
            (self._run / FAILURE).write_text(text)
            fault = HostFault(f"the emulated platform failed: {error}", evidence=text)
            fault.__cause__ = error
            self._end(fault)

    def _end(self, failure: HostFault | None) -> None:
        """Nobody waits any more: neither here nor, the socket being shut, in QEMU."""
        self._failure = failure  # before anybody can see the end, and before the last answers fail
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        with self._sending:
            while self._answers:
                answer = self._answers.popleft()
                answer.failed = True
                answer.done.set()

    def _read_line(self, deadline: Deadline | None) -> str:
        while b"\n" not in self._buffer:
            if not select.select([self._ours], [], [], None if deadline is None else deadline.remaining())[0]:
                assert deadline is not None
                raise deadline.exceeded("the plugin says nothing")
            try:
                received = self._ours.recv(1 << 16)
            except OSError as error:
                raise _lost("") from error
            if not received:
                raise _lost("")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def _dispatch(self, line: str) -> None:
        verb, *words = line.split(" ")
        if verb in _LAST_WORDS or verb == "state":
            self._answered(verb, line)
        elif verb == "seamcall":
            vcpu, *registers = (int(word, 16) for word in words)
            self._seamcall(vcpu, Registers(*registers))
        elif verb == "hook":
            number, _, value = (int(word, 16) for word in words)
            self._hooks[number](GuestMemory(self), value)
            self._send("done")
        elif verb == "reset":
            self._reset(int(words[0], 16))
        elif verb == "held":
            self._held(words)
        elif verb == "lost":
            self._notice(int(words[0], 16), None)
        else:
            raise HostFault("the plugin said something unknown", found=line)

    def _answered(self, verb: str, line: str) -> None:
        if not self._answers:
            raise HostFault("the plugin answered to nothing", found=line)
        answer = self._answers[0]
        answer.lines.append(line)
        if verb in _LAST_WORDS:
            self._answers.popleft()
            answer.error = line.removeprefix("error").strip() or "without a reason" if verb == "error" else ""
            answer.done.set()

    def _seamcall(self, vcpu: int, registers: Registers) -> None:
        if self._tdx is None:
            raise HostFault("a SEAMCALL reached the harness, and there is no TDX module")
        with self._model:
            completion = self._tdx.seamcall(vcpu, registers, GuestMemory(self))
        if isinstance(completion, Done):
            self._send("done " + " ".join(f"{value:x}" for value in astuple(completion.registers)))
        elif isinstance(completion, Fault):
            self._send(f"fault {completion.vector}")
        else:
            self._send("vmfail")

    def _held(self, words: Sequence[str]) -> None:
        number, cpu, pid, preempt_count, interrupts = (int(word, 16) for word in words[:5])
        comm = "" if words[5] == "-" else bytes.fromhex(words[5]).decode(errors="replace")
        self._notice(number, Holding(cpu, pid, preempt_count, bool(interrupts), comm))

    def _notice(self, number: int, holding: Holding | None) -> None:
        """Of a point that was removed in the meantime nobody wants to know."""
        if notice := self._points.get(number):
            notice(holding)

    def _reset(self, vcpu: int) -> None:
        """A reset of vCPU 0 is the machine's: the module was in memory that the reset took away."""
        if vcpu == 0 and self._tdx is not None:
            with self._model:
                self._tdx.reset()


def _soon() -> Deadline:
    return Deadline.after(_ANSWER_S, "the plugin's answer")


def _lost(line: str) -> LinkLost:
    return LinkLost("the plugin is gone", found=f"while it was asked: {line[:200]}" if line else "")
