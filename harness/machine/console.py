"""The serial console: read to its end by a thread of its own, kept as lines with their times.

QEMU writes console.log itself; this is the harness's view of the same bytes while the guest runs.
"""

from __future__ import annotations

import contextlib
import enum
import re
import socket
import threading
import time
from dataclasses import dataclass

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from harness.deadline import Deadline
from harness.machine.bell import Bell

_SETTLED_S = 0.1  # without a new line: QEMU has the bytes in the socket before it reports the stop


def patient_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, of which the second takes what a guest prints however late the first is read.

    QEMU sends byte by byte. A Unix socket takes 278 such bytes, then QEMU's chardev logs what it could not
    send, and sends it again later: the log has the character twice. TCP merges them; it took 2 MB.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        while True:
            ours, peer = server.accept()
            if peer == theirs.getsockname():
                break
            ours.close()  # somebody else on this host was faster
    theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


class Sign(enum.Enum):
    """Lines that mean something to the machine itself: those of the guest image's init, and the kernel's panic."""

    READY = re.compile(r"harness: ready (?P<uptime>[\d.]+)")
    CRASH_KERNEL = re.compile(r"harness: crash kernel (?P<uptime>[\d.]+)")
    FAILED = re.compile(r"harness: failed (?P<what>.*)")
    # kernel/panic.c. The second line of a panic, "---[ end Kernel panic - not syncing …", is the same panic.
    PANIC = re.compile(r"(?<!end )Kernel panic - not syncing: ?(?P<what>.*)")


@dataclass(frozen=True)
class Line:
    """One line without its line end, and the host's monotonic time at which it was complete."""

    number: int
    at: float
    text: str


@dataclass(frozen=True)
class Seen:
    """A sign, and where it was seen."""

    sign: Sign
    line: Line
    detail: str


class Console:
    """The guest's ttyS0 at the other end of `sock`, which is this object's from now on.

    `said` is what it printed before, in another QEMU.
    """

    def __init__(self, sock: socket.socket, bell: Bell, said: str = "") -> None:
        self._bell = bell
        self._lines: list[Line] = []
        self._signs: list[Seen] = []
        self._began = time.monotonic()
        *whole, self._begun = said.encode().split(b"\n")
        for line in whole:
            self._add(line)
        self._spawn = SocketSpawn(sock, timeout=None)
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)
        self._thread.start()

    @property
    def position(self) -> int:
        """The number of complete lines so far; `since` for searches in what comes after."""
        return len(self._lines)

    @property
    def last_at(self) -> float:
        """The monotonic time of the last complete line; of the start before the first."""
        return self._lines[-1].at if self._lines else self._began

    def lines(self, since: int = 0) -> list[Line]:
        return self._lines[since:]

    def excerpt(self, since: int = 0, lines: int = 25) -> str:
        """The last `lines` lines after position `since`, as evidence."""
        return "\n".join(line.text for line in self._lines[since:][-lines:])

    def signs(self, since: int = 0) -> dict[Sign, Seen]:
        """Each sign that was seen at or after position `since`, where it was seen first."""
        found: dict[Sign, Seen] = {}
        for seen in self._signs:
            if seen.line.number >= since:
                found.setdefault(seen.sign, seen)
        return found

    def find(self, pattern: str | re.Pattern[str], since: int = 0) -> Line | None:
        """The first line at or after position `since` in which `pattern` is found."""
        return next((line for line in self._lines[since:] if re.search(pattern, line.text)), None)

    def wait_for(self, pattern: str | re.Pattern[str], deadline: Deadline, since: int = 0) -> Line:
        """Like `find`, but waits for it. The machine's `wait_console` also ends when the guest does."""
        return self._bell.wait_for(lambda: self.find(pattern, since), deadline)

    def send_line(self, text: str) -> None:
        """Types `text` and Enter."""
        self._spawn.sendline(text)

    def send(self, text: str) -> None:
        """Types `text`."""
        self._spawn.send(text)

    def settle(self, deadline: Deadline) -> None:
        """Returns when all that a stopped guest has printed was read, or at the deadline."""
        begin = time.monotonic()  # its last lines may not have been read at all yet
        while not deadline.expired and time.monotonic() - max(begin, self.last_at) < _SETTLED_S:
            time.sleep(_SETTLED_S / 10)

    def wait_end(self, seconds: float) -> bool:
        """Whether QEMU closed its end, and all that it had written was read, within `seconds`."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Ends the connection and the reader; what was read stays. Safe more than once."""
        with contextlib.suppress(OSError):  # QEMU closed its end first
            self._spawn.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._spawn.socket.close()

    def _read(self) -> None:
        with contextlib.suppress(ConnectionResetError):  # QEMU ended with something typed that it had not read
            while self._spawn.expect_exact([b"\n", pexpect.EOF], timeout=None) == 0:
                self._add(self._read_part())
        if rest := self._read_part():
            self._add(rest)
        self._bell.ring()

    def _read_part(self) -> bytes:
        """What was read up to here, after what there was of the line before."""
        part = self._spawn.before
        assert isinstance(part, bytes)  # SocketSpawn without an encoding
        begun, self._begun = self._begun, b""
        return begun + part

    def _add(self, raw: bytes) -> None:
        line = Line(len(self._lines), time.monotonic(), raw.decode(errors="replace").strip("\r"))
        for sign in Sign:
            match = sign.value.search(line.text)
            if match:
                self._signs.append(Seen(sign, line, next(iter(match.groups()), "")))
        self._lines.append(line)
        self._bell.ring()
