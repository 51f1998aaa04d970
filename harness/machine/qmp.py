"""QMP without asyncio at the call site: commands with deadlines, and a record of every event.

The record is what makes waits safe: an event that came before the wait began is in it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import socket
import threading
import time
from collections.abc import Collection, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from harness.deadline import Deadline
from harness.errors import HostFault
from harness.machine.bell import Bell

T = TypeVar("T")


class QmpRefused(HostFault):
    """QEMU answered a command with an error: `command`, `error_class`."""

    def __init__(self, command: str, error: ExecuteError) -> None:
        super().__init__(f"QEMU refused the QMP command {command}", found=str(error))
        self.command = command
        self.error_class = error.error_class


class QmpLost(HostFault):
    """The connection ended before the answer came: QEMU is gone, or never spoke QMP."""


@dataclass(frozen=True)
class QmpEvent:
    """An event of QEMU, with its place in the record and the host's monotonic time of its arrival."""

    seq: int
    at: float
    name: str
    data: Mapping[str, Any]


class Qmp:
    """One connection. Every message goes to `log` as a line of JSON: at, kind, message."""

    def __init__(self, log: Path, bell: Bell) -> None:
        self._log = log.open("a", buffering=1)
        self._bell = bell
        self._events: list[QmpEvent] = []
        self._ignored: frozenset[str] = frozenset()
        self._client = QMPClient("machine")
        # The filter sees events in the order of the wire, ahead of the replies that follow them; what it refuses is
        # not queued for anybody.
        self._client.register_listener(EventListener(event_filter=self._record))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()

    def connect(self, sock: socket.socket, deadline: Deadline) -> None:
        """Negotiates on a connected socket, which is this object's from now on. Raises QmpLost, DeadlineExceeded."""
        sock.setblocking(False)
        self._await(self._client.connect(sock), deadline, "connect")

    def execute(self, command: str, deadline: Deadline, arguments: Mapping[str, object] | None = None) -> Any:
        """The command's return value. Raises QmpRefused, QmpLost, DeadlineExceeded."""
        self._write("command", {"execute": command, "arguments": arguments or {}})
        try:
            reply = self._await(self._client.execute(command, arguments), deadline, command)
        except ExecuteError as error:
            self._write("error", str(error))
            raise QmpRefused(command, error) from error
        self._write("reply", reply)
        return reply

    def human(self, command_line: str, deadline: Deadline) -> str:
        """The text that QEMU's human monitor answers."""
        return str(self.execute("human-monitor-command", deadline, {"command-line": command_line}))

    @property
    def position(self) -> int:
        """The number of events so far; `since` for waits on what comes after."""
        return len(self._events)

    def events(self, names: Collection[str] = (), since: int = 0) -> list[QmpEvent]:
        """Events from position `since` on; only those called `names` where given."""
        return [event for event in self._events[since:] if not names or event.name in names]

    def ignore(self, *names: str) -> None:
        """From now on, events of these names are in the log only."""
        self._ignored = self._ignored.union(names)

    def wait_event(self, names: Collection[str], deadline: Deadline, since: int = 0) -> QmpEvent:
        """The first event called one of `names` at or after position `since`, whether or not it came already."""
        return self._bell.wait_for(lambda: next(iter(self.events(names, since)), None), deadline)

    def close(self) -> None:
        """Ends the connection and the thread. Safe at any time, more than once."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(HostFault):
            self._await(self._disconnect(), Deadline.after(2.0, "QMP disconnect"), "disconnect")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._log.close()

    async def _disconnect(self) -> None:
        # The connection mostly broke before, by QEMU's end; disconnect() then reports that as its error.
        with contextlib.suppress(QMPError, EOFError, OSError):
            await self._client.disconnect()

    def _await(self, work: Coroutine[Any, Any, T], deadline: Deadline, what: str) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(deadline.remaining())
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise deadline.exceeded(f"QEMU does not answer the QMP command {what}") from error
        except ExecuteError:
            raise
        except (QMPError, EOFError, OSError) as error:
            raise QmpLost(f"lost QEMU during the QMP command {what}", found=str(error)) from error

    def _record(self, message: Mapping[str, Any]) -> bool:
        self._write("event", dict(message))
        if message["event"] not in self._ignored:
            event = QmpEvent(len(self._events), time.monotonic(), message["event"], message.get("data", {}))
            self._events.append(event)
            self._bell.ring()
        return False

    def _write(self, kind: str, message: object) -> None:
        line = {"at": round(time.monotonic(), 6), "kind": kind, "message": message}
        with contextlib.suppress(ValueError):  # an event may still arrive while the log is being closed
            self._log.write(json.dumps(line) + "\n")
