"""What an event looked like in the newest run that has it."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from harness.paths import runs_dir
from harness.probes.event import EVENTS_LOG, Event
from harness.report.lanes import describe

_FOLDERS = 40  # that are looked through: a folder's events are 0.1 MB
_EVENTS = 6


def last_seen(name: str) -> Iterator[str]:
    """The folder of the newest run that has events of that name, and a line for each of the first few."""
    for path in sorted(runs_dir().glob(f"*/{EVENTS_LOG}"), reverse=True)[:_FOLDERS]:
        events = list(itertools.islice(_events(path, name), _EVENTS))
        if events:
            yield str(path.parent)
            yield from (f"    seq {event.seq} CPU {event.cpu} {event.task}: {describe(event)}" for event in events)
            return


def _events(path: Path, name: str) -> Iterator[Event]:
    for line in path.read_text(errors="replace").splitlines():
        if f'"name": "{name}"' in line:
            with contextlib.suppress(ValueError):  # the last line of a run that is going on may be half there
                yield Event.from_json(json.loads(line))
