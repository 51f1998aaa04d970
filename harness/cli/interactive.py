"""A person at a guest: the terminal passed through to a live run, until Ctrl-]."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.errors import HostFault
from harness.visit import Visitor

LEAVE = b"\x1d"  # Ctrl-], as telnet has it

_LOOK_S = 0.02
_SILENCE_S = 1.0  # after the end of an input that is no terminal: what comes later than that is nobody's answer
_CHUNK = 65536
_BEFORE = 2000  # bytes of what the console said before


def console(visitor: Visitor, notice: Callable[[], str] = lambda: "") -> None:
    """The guest's console on this terminal, and what is typed here on it. `notice` is asked for something to say.

    Returns at Ctrl-] and when the run is over. Raises HostFault, UsageError.
    """
    with visitor.connection() as connection:
        log = Path(visitor.type_on_console(connection)["console"])
        with _opened(log) as tail:
            _relay(connection, lambda: tail() + notice().encode())


def monitor(path: str) -> None:
    """QEMU's monitor at the socket `path`, until Ctrl-] or its end. Raises HostFault."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            raise HostFault("QEMU's monitor does not listen", found=str(error)) from error
        _relay(connection, lambda: b"")


@contextlib.contextmanager
def _opened(log: Path) -> Iterator[Callable[[], bytes]]:
    """Gives a function that returns what came since it was asked last. QEMU may not have made the file yet."""
    position: int | None = None

    def news() -> bytes:
        nonlocal position
        if not log.exists():
            return b""
        with log.open("rb") as file:
            if position is None:
                position = max(0, file.seek(0, os.SEEK_END) - _BEFORE)
            file.seek(position)
            data = file.read()
            position += len(data)
            return data

    yield news


def _relay(connection: socket.socket, news: Callable[[], bytes]) -> None:
    with _raw():
        inputs: list[int] = [connection.fileno(), sys.stdin.fileno()]
        heard = time.monotonic()
        while len(inputs) == 2 or time.monotonic() - heard < _SILENCE_S:
            ready, _, _ = select.select(inputs, [], [], _LOOK_S)
            data = connection.recv(_CHUNK) if connection.fileno() in ready else None
            if said := news() + (data or b""):
                heard = time.monotonic()
                _write(said)
            if data == b"":
                return
            if sys.stdin.fileno() in ready:
                typed = os.read(sys.stdin.fileno(), _CHUNK)
                connection.sendall(typed.partition(LEAVE)[0])
                if LEAVE in typed:
                    return
                if not typed:
                    inputs.remove(sys.stdin.fileno())


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """The terminal passes every key on, Ctrl-C among them; a pipe is left as it is."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        _write(b"\r\n")
