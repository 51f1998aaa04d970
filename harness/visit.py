"""Live runs, as other processes find and ask them; harness/run/door.py is the other end.

<doors>/<pid>-<n>/run.json    whose run it is
<doors>/<pid>-<n>/door        a socket: one connection per request, a line of JSON answered by a line of JSON
<doors>/<pid>-<n>/hmp …       QEMU's own sockets, made when they are asked for
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HostFault, UsageError
from harness.paths import doors_dir

DOOR = "door"
ABOUT = "run.json"

_ANSWER_S = 320.0  # longer than a run takes to dump its memory
_CHUNK = 65536


@dataclass(frozen=True)
class Visitor:
    """Somebody at the door of the run `name`, which process `pid` does since `since` (seconds of the epoch)."""

    name: str
    pid: int
    since: float
    place: Path

    def ask(self, do: str, **more: object) -> dict[str, Any]:
        """The run's answer. Raises HostFault when it is gone, UsageError when it says no."""
        with self.connection() as connection:
            return self._ask(connection, do, more)

    def type_on_console(self, connection: socket.socket) -> dict[str, Any]:
        """Makes the connection one whose bytes are typed on the console; returns what `info` does."""
        return self._ask(connection, "console", {})

    @contextlib.contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """Raises HostFault when the run is gone."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_S)
            try:
                connection.connect(str(self.place / DOOR))
            except OSError as error:
                raise HostFault(f"{self.name} is over", found=str(error)) from error
            yield connection

    def _ask(self, connection: socket.socket, do: str, more: dict[str, object]) -> dict[str, Any]:
        try:
            connection.sendall(json.dumps({"do": do, **more}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n") and (chunk := connection.recv(_CHUNK)):
                answer += chunk
            reply: dict[str, Any] = json.loads(answer)
        except (OSError, ValueError) as error:
            raise HostFault(f"{self.name} does not answer: it may just have ended", found=str(error)) from error
        if "error" in reply:
            raise UsageError(reply["error"])
        return reply


def live_runs() -> list[Visitor]:
    """The live runs of this user on this machine, oldest first. What dead ones have left is removed."""
    found = []
    for place in doors_dir().glob("*-*"):
        with contextlib.suppress(OSError, ValueError, KeyError):  # one that is just coming or going
            about = json.loads((place / ABOUT).read_text())
            if Path(f"/proc/{about['pid']}").exists():
                found.append(Visitor(about["name"], about["pid"], about["since"], place))
                continue
            shutil.rmtree(place, ignore_errors=True)
    return sorted(found, key=lambda visitor: visitor.since)


def live_run(wanted: str) -> Visitor:
    """The live run whose name is or contains `wanted`, or whose folder it is. Raises UsageError for none or many."""
    name = os.path.basename(wanted.rstrip("/"))  # noqa: PTH119 -- a part of a name is no path
    runs = live_runs()
    fitting = [run for run in runs if run.name == name] or [run for run in runs if name in run.name]
    if len(fitting) == 1:
        return fitting[0]
    names = "\n".join(run.name for run in fitting or runs)
    raise UsageError(
        f"{'several live runs are' if fitting else 'no live run is'} called {wanted!r}",
        expected="one of these:" if names else "a run that is going on, or one that is kept: `harness run --keep`",
        evidence=names,
    )
