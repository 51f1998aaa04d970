"""What a step `until` looks at: events, messages, samples."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.guest.session import Session
from harness.observe.sample import Sample
from harness.observe.sampler import take_sample
from harness.probes.event import Event, same_value
from harness.run.events import EventLog
from harness.scenario.kinds import Selector
from harness.scenario.steps import Until


@dataclass(frozen=True)
class Moment:
    """Where the console and the trace were when a step began."""

    console: int
    events: Mapping[str, int]

    @classmethod
    def now(cls, session: Session, log: EventLog) -> Moment:
        return cls(session.machine.console.position, log.position())


def condition(step: Until, session: Session, log: EventLog, since: Moment, deadline: Deadline) -> Callable[[], bool]:
    """Whether what `step` waits for has happened since a moment, to be asked again and again."""
    machine = session.machine
    if step.event is not None:
        selector, count = step.event, step.count
        return lambda: _enough(log.since(since.events, machine.boot.number), selector, count, session.online)
    if step.dmesg is not None:
        pattern = re.compile(step.dmesg)
        return lambda: machine.console.find(pattern, since.console) is not None

    return lambda: _has(take_sample(step.id, session, deadline), step.state)


def _has(sample: Sample, wanted: Mapping[str, str | int]) -> bool:
    """Whether a sample has these values; what could not be asked for is not absent."""
    return all(sample.answers(path) and same_value(sample.lookup(path), value) for path, value in wanted.items())


def _enough(events: list[Event], selector: Selector, count: int, online: tuple[int, ...]) -> bool:
    found = [event for event in events if event.matches(selector)]
    everywhere = selector.cpu != "each" or {event.cpu for event in found} >= set(online)
    return everywhere and len(found) >= count
