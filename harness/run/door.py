"""The way into a live run from other processes: a socket, and beside it a note on whose it is (harness/visit.py).

QEMU's console and QMP belong to the harness, and its emulated platform needs it: so who wants in asks the harness,
and a guest that is kept for inspection is kept by its run, which waits until it is stopped.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_UNIX, SHUT_RDWR, socket
from typing import Any, Literal

from harness import progress
from harness.deadline import Deadline
from harness.errors import HarnessError, UsageError
from harness.guest.session import Session
from harness.machine.machine import WrongState
from harness.machine.state import ENDED, State
from harness.paths import doors_dir
from harness.visit import ABOUT, DOOR

_ANSWER_S = 60.0
_DUMP_S = 300.0  # 1 s for 512 MiB on an idle host
_LINE_MAX = 65536
_CHUNK = 4096
_LOOK_S = 0.5  # between looks at the machine of a run that is kept

_NOBODY_THERE = ENDED | {State.CREATED, State.SUSPENDED}  # nobody answers by ssh

_numbers = itertools.count(1)


@dataclass
class Door:
    """A live run's door. `name` is what people call the run, `debugger` makes the command of gdb for a socket."""

    name: str
    session: Session
    debugger: Callable[[str], str]
    place: Path
    kept: str = ""  # why it stays, while it is kept for inspection
    _sockets: dict[str, Path] = field(default_factory=dict)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, why: str) -> None:
        """Waits until somebody stops the run, or its QEMU ends. Raises KeyboardInterrupt on Ctrl-C."""
        self.kept = why
        try:
            while not self._stopped.wait(_LOOK_S) and self.session.machine.state is not State.GONE:
                pass
        finally:
            self.kept = ""

    def about(self) -> dict[str, Any]:
        """How the run is, and how to reach it."""
        machine = self.session.machine
        return {
            "name": self.name,
            "state": f"kept ({self.kept})" if self.kept else "running",
            "machine": machine.state.value,
            "pid": os.getpid(),
            "qemu": machine.pid,
            "folder": str(machine.run),
            "engine": machine.engine.label,
            "console": str(machine.run / "console.log"),
            "ssh": [] if machine.state in _NOBODY_THERE else list(self.session.shell.by_hand),
        }

    def listen(self, kind: Literal["hmp", "qmp", "gdb"]) -> str:
        """A socket of QEMU's, at which it listens from now on. Raises WrongState for a gdbstub that is in use."""
        machine, path = self.session.machine, self.place / kind
        deadline = Deadline.after(_ANSWER_S, f"QEMU's {kind}")
        with self._lock:
            if kind not in self._sockets:
                if kind == "gdb":
                    machine.serve_gdb(path, deadline)
                else:
                    machine.serve_monitor(kind, path, deadline)
                self._sockets[kind] = path
        return str(path)

    def gdb(self) -> str:
        """The command of a debugger. Raises WrongState for a gdbstub that is in use."""
        return self.debugger(self.listen("gdb"))

    # What can be asked for

    def _info(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self.about()

    def _socket(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"socket": self.listen(request["kind"])}

    def _gdb(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"command": self.gdb()}

    def _dump(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The guest's memory as an ELF core."""
        self._require_kept("a dump stops the machine, which a run that is going on would take for its end")
        self.session.machine.dump(Path(request["path"]), Deadline.after(_DUMP_S, "the guest's memory"))
        return {"path": request["path"]}

    def _stop(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._require_kept("it ends by itself")
        self._stopped.set()
        return {}

    def _require_kept(self, why: str) -> None:
        if not self.kept:
            raise WrongState(f"{self.name} is not kept: {why}", hint=f"Ctrl-C where it runs (process {os.getpid()})")

    def _type(self, connection: socket, begun: bytes) -> None:
        """Types on the console whatever comes, until the other end has enough."""
        while begun:
            self.session.machine.console.send(begun.decode(errors="replace"))
            begun = connection.recv(_CHUNK)

    # The server

    def serve(self, listening: socket) -> None:
        """Answers until the socket is closed."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=self._answer, args=(connection,), name="visitor", daemon=True).start()

    def _answer(self, connection: socket) -> None:
        with connection, contextlib.suppress(OSError):
            line, _, rest = _line(connection)
            if not line:
                return
            try:
                request = json.loads(line)
                do = request["do"]
                reply = self.about() if do == "console" else _REQUESTS[do](self, request)
            except HarnessError as error:
                reply = {"error": str(error)}
            except (ValueError, KeyError, TypeError) as error:
                reply = {"error": f"not understood: {line!r} ({error!r})"}
            connection.sendall(json.dumps(reply).encode() + b"\n")
            if reply.get("console") and do == "console":
                self._type(connection, rest or connection.recv(_CHUNK))


_REQUESTS: dict[str, Callable[[Door, Mapping[str, Any]], dict[str, Any]]] = {
    "info": Door._info,
    "socket": Door._socket,
    "gdb": Door._gdb,
    "dump": Door._dump,
    "stop": Door._stop,
}


def _line(connection: socket) -> tuple[bytes, bytes, bytes]:
    data = b""
    while b"\n" not in data and len(data) < _LINE_MAX and (chunk := connection.recv(_CHUNK)):
        data += chunk
    return data.partition(b"\n")


@contextlib.contextmanager
def open_door(name: str, session: Session, debugger: Callable[[str], str]) -> Iterator[Door]:
    """A door to the run `name` during the block; its machine need not be started yet.

    Raises UsageError where doors cannot be made.
    """
    place = doors_dir() / f"{os.getpid()}-{next(_numbers)}"
    with contextlib.ExitStack() as cleanup:
        try:
            doors_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
            if doors_dir().stat().st_uid != os.getuid():
                raise PermissionError(errno.EPERM, "it is another user's")
            place.mkdir(mode=0o700)
            cleanup.callback(shutil.rmtree, place, ignore_errors=True)
            listening = cleanup.enter_context(socket(AF_UNIX))
            listening.bind(str(place / DOOR))
            listening.listen()
        except OSError as error:
            raise UsageError(
                f"cannot make a socket in {doors_dir()}: {error.strerror or error}",
                expected="a folder that this user can write to, with a path of less than 80 bytes",
                hint="set $XDG_RUNTIME_DIR to another one",
            ) from error
        about = {"name": name, "pid": os.getpid(), "since": time.time()}
        (place / ABOUT).write_text(json.dumps(about))
        door = Door(name, session, debugger, place)
        thread = threading.Thread(target=door.serve, args=(listening,), name="door", daemon=True)
        thread.start()
        cleanup.callback(_close, listening, thread)
        yield door


@contextlib.contextmanager
def door_where_possible(name: str, session: Session, debugger: Callable[[str], str]) -> Iterator[Door | None]:
    """The same; None, with a note, where doors cannot be made."""
    with contextlib.ExitStack() as cleanup:
        door = None
        try:
            door = cleanup.enter_context(open_door(name, session, debugger))
        except UsageError as error:
            progress.note(f"{name} cannot be visited: {error.what}")
        yield door


def _close(listening: socket, thread: threading.Thread) -> None:
    # A socket that is only closed leaves accept() waiting.
    listening.shutdown(SHUT_RDWR)
    listening.close()
    thread.join()
