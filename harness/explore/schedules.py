"""Interleavings of activities, as words.

An activity that can be held at n points has n segments: segment i begins when it is let go at its point i, and ends
when it comes to the next one, or with the activity. Up to their first points the activities do nothing that they
share, so there they all wait when a schedule begins. A schedule is a word over the activities: each letter lets
that activity run for one segment, while the others stand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import factorial, prod

Schedule = tuple[str, ...]


def interleavings(segments: Mapping[str, int], enders: Collection[str] = ()) -> Iterator[Schedule]:
    """Every schedule of activities with so many segments each, in lexical order of `segments`' keys.

    With the last segment of an activity of `enders` the boot is over: what the others had left is in no schedule.
    """
    yield from _continued((), dict(segments), enders)


def _continued(begun: Schedule, left: dict[str, int], enders: Collection[str]) -> Iterator[Schedule]:
    if not any(left.values()) or any(not left[name] for name in enders):
        yield begun
        return
    for name, count in left.items():
        if count:
            yield from _continued((*begun, name), {**left, name: count - 1}, enders)


def number_of_words(segments: Mapping[str, int]) -> int:
    """How many interleavings there are when nobody ends the boot: the multinomial coefficient."""
    return factorial(sum(segments.values())) // prod(factorial(count) for count in segments.values())


def switches(schedule: Schedule, segments: Mapping[str, int]) -> int:
    """How often a schedule leaves an activity that could have gone on.

    Most races need one or two (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007), and the fewer the
    easier a schedule is to read: this is the order in which they are run.
    """
    left = dict(segments)
    count = 0
    for place, name in enumerate(schedule):
        left[name] -= 1
        follower = schedule[place + 1] if place + 1 < len(schedule) else name
        count += follower != name and left[name] > 0
    return count


def blocks(schedule: Schedule) -> list[tuple[str, int]]:
    """The schedule as runs of one activity: [(load, 2), (reboot, 5), (load, 1)]."""
    found: list[tuple[str, int]] = []
    for name in schedule:
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1] + 1)
        else:
            found.append((name, 1))
    return found


def schedule_name(schedule: Schedule) -> str:
    """The schedule as a file's name: load2-reboot5-load1."""
    return "-".join(f"{name}{count}" for name, count in blocks(schedule))


def parse_schedule(text: str) -> Schedule:
    """The inverse of `schedule_name`. Raises ValueError."""
    letters: list[str] = []
    for block in text.split("-"):
        name = block.rstrip("0123456789")
        if not name or name == block:
            raise ValueError(f"{text!r} is not a schedule; write load2-reboot5-load1")
        letters += [name] * int(block[len(name) :])
    return tuple(letters)
