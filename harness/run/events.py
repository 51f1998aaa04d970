"""Events while they happen: the tails of the files that they are written to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.platform.link import EVENTS as PLATFORM_LOG
from harness.probes import tracefs
from harness.probes.event import Event
from harness.probes.functions import FunctionProbes
from harness.probes.gdb_holds import HOLDS_LOG
from harness.probes.platform_log import parse_platform
from harness.probes.tracer import STREAMS


@dataclass(frozen=True)
class EventLog:
    """What the sources of events have written to a run's folder."""

    folder: Path
    functions: FunctionProbes | None

    def position(self) -> Mapping[str, int]:
        """Where the files end now."""
        return {name: _size(self.folder / name) for name in (*STREAMS, PLATFORM_LOG, HOLDS_LOG)}

    def since(self, position: Mapping[str, int], boot: int) -> list[Event]:
        """The events of `boot` since then; their `seq` says nothing between sources."""
        return self.news(position, boot)[0]

    def news(self, position: Mapping[str, int], boot: int) -> tuple[list[Event], Mapping[str, int]]:
        """The same, and where the lines end that they were on: nothing is told twice from there."""
        parts = {name: self._read(name, position.get(name, 0)) for name in (*STREAMS, PLATFORM_LOG, HOLDS_LOG)}
        streamed = [line for name in STREAMS for line in parts[name][0]]
        # The parser takes lines for a boot's only after that boot's mark.
        marked = [f"harness-0 [000] 0: tracing_mark_write: {tracefs.mark('boot', str(boot))}", *streamed]
        events = tracefs.parse_trace(marked).events[1:]
        for name in (PLATFORM_LOG, HOLDS_LOG):
            fetches, void = (
                (self.functions.fetches, self.functions.void) if self.functions else ({}, frozenset[str]())
            )
            events += parse_platform(parts[name][0], fetches, void).events
        return [event for event in events if event.boot == boot], {name: end for name, (_, end) in parts.items()}

    def _read(self, name: str, begin: int) -> tuple[list[str], int]:
        """The whole lines from `begin` on, and where they end."""
        path = self.folder / name
        if not path.exists():
            return [], begin
        with path.open("rb") as file:
            file.seek(begin)
            whole, newline, _ = file.read().rpartition(b"\n")
        return whole.decode(errors="replace").split("\n") if newline else [], begin + len(whole + newline)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
