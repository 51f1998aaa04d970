"""Which points a kernel really comes to, and in which order: seen by running each activity once, alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.errors import HostFault, UsageError
from harness.explore.activities import Activity, SyncPoint
from harness.judge.record import RunRecord
from harness.probes.event import Event
from harness.scenario.kinds import PointPhase


@dataclass(frozen=True)
class Recording:
    """One activity as it was seen alone: the points that it came to, in this order, and those that it did not."""

    points: tuple[SyncPoint, ...]
    absent: tuple[SyncPoint, ...]


def recorded(activity: Activity, wanted: Sequence[SyncPoint], record: RunRecord) -> Recording:
    """What the record of `activity` alone says of the points that are wanted.

    A function may also be called before what the activity is about (a notifier chain, for an exec): counted is from
    the activity's first point on. Raises HostFault for a run that did not come to its end, UsageError when the
    activity comes to none of them.
    """
    if record.fault is not None:
        raise HostFault(f"{activity.name} alone could not be recorded in {record.folder}", found=record.fault.text)
    visits = {point: _visits(point, activity, record) for point in wanted}
    start = visits[wanted[0]][0] if visits[wanted[0]] else (0, 0)
    found = []
    for point, places in visits.items():
        hit = sum(place < start for place in places) + point.hit
        if len(places) >= hit:
            found.append((places[hit - 1], replace(point, hit=hit), point))
    if not found:
        named = ", ".join(point.text for point in wanted)
        raise UsageError(f"{activity.name} on {record.kernel['release']} comes to none of {named}")
    found.sort(key=lambda row: row[0])
    reached = {point for _, _, point in found}
    return Recording(tuple(point for _, point, _ in found), tuple(point for point in wanted if point not in reached))


def _visits(point: SyncPoint, activity: Activity, record: RunRecord) -> list[tuple[int, int]]:
    """Where in the order of events the activity was at the point."""
    begin = next(event.order for event in record.events if event.name == activity.name and event.phase == "begin")
    assert begin is not None  # marks are lines of the kernel's own trace
    places = [event.order for event in record.events if event.order is not None and _is_at(point, activity, event)]
    return [place for place in places if place > begin]


def _is_at(point: SyncPoint, activity: Activity, event: Event) -> bool:
    if (event.name, event.phase) != (point.function, point.phase):
        return False
    return point.anyone or event.task == (point.task or activity.task)


def parse_points(text: str) -> tuple[str, tuple[SyncPoint, ...]]:
    """The points of one activity, as the command line takes them: load=kvm_init,register_syscore.return,foo#2.

    Nothing is known of them: they may touch everything. Raises UsageError.
    """
    name, equals, places = text.partition("=")
    words = [word.strip() for word in places.split(",")]
    if not equals or not all(words):
        raise UsageError(f"{text!r} gives no points", expected="ACTIVITY=FUNCTION[.return][#HIT],…")
    return name.strip(), tuple(_parse_point(word) for word in words)


def _parse_point(word: str) -> SyncPoint:
    place, _, hit = word.partition("#")
    function, _, phase = place.partition(".")
    if phase not in ("", "call", "return") or (hit and not hit.isdigit()) or hit == "0":
        raise UsageError(
            f"{word!r} is no point", expected="FUNCTION, FUNCTION.return, or either with #2 for the second time"
        )
    at: PointPhase = "return" if phase == "return" else "call"
    return SyncPoint(function, f"at {'the return of ' if at == 'return' else ''}{function}", at, hit=int(hit or 1))
