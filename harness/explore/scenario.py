"""A schedule as a scenario: one that anybody can run again, read, and change.

All activities are started and wait at their first points; then each letter of the schedule is a release, and a
wait for the next point, or for the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from harness.explore.activities import Activity, Cast, Json, SyncPoint, set_up
from harness.explore.schedules import Schedule, blocks

# An activity comes to its next point in 0.1 to 1 s under TCG, on a host that does nothing else. One that is blocked
# costs all of this, but each place only once.
_HOLD_S = "30s"
# A first point nobody is in the way of; a load takes 0.5 s, and on a host with a load of 25 half a minute.
_FIRST_S = "2min"

Points = Mapping[str, Sequence[SyncPoint]]
Places = Callable[[Schedule], Mapping[str, int]]  # where all stand after some letters: `Lessons.positions`


@dataclass(frozen=True)
class Script:
    """What all schedules of an exploration have in common.

    `platform` says whether the emulated platform sees VMX's instructions, and functions up to the very reset. `given`
    are the activities that the command line gave points for, before which they may have done anything.
    """

    cast: Cast
    points: Points
    kernel: str  # as a scenario's `kernels` names it
    old: bool  # before 6.12, which enables with the first VM and not at load
    platform: bool
    command: str  # what is to be said to explore all of it again
    given: frozenset[str] = frozenset()

    def segments(self) -> dict[str, int]:
        """How many segments each activity has."""
        return {name: len(self.points[name]) for name in self.cast.names}

    def text(self, schedule: Schedule, places: Places) -> str:
        """The scenario for `schedule` as YAML."""
        return _Writer(self, schedule, places).text()

    def aims(self, schedule: Schedule, places: Places) -> tuple[str, ...]:
        """The point that each letter brings its activity to; "" for its end."""
        writer = _Writer(self, schedule, places)
        return tuple(
            "" if writer.is_end(begun) else point_id(begun[-1], writer.after(begun)) for begun in writer.prefixes()
        )

    def prelude_text(self) -> str:
        """The scenario in which all come to their first points, and no further."""
        return _Writer(self, (), lambda begun: {}).prelude()

    def title(self, schedule: Schedule, places: Places) -> str:
        """Where each activity goes, in turn."""
        return _Writer(self, schedule, places).title


def recording_text(activity: Activity, points: Sequence[SyncPoint], kernel: str, platform: bool) -> str:
    """The scenario in which `activity` is done alone, with the functions of `points` traced."""
    functions = list(dict.fromkeys(point.function for point in points))
    return "".join(
        (
            _section("title", f"{activity.name} alone"),
            _section("claims", [{"id": "done", "text": f"{activity.name} succeeds.", "source": _SOURCE}]),
            _section("kernels", [kernel]),
            *_machine([activity], platform),
            _section("trace", functions),
            _mapping("actors", {activity.name: _actor(activity)}, {}),
            _list("steps", ((step, "") for step in (*set_up([activity]), *_run_through(activity)))),
            _list("expect", [({"exit": {activity.name: "OK"}}, "")]),
        )
    )


def _run_through(activity: Activity) -> list[Json]:
    # The console tells of a kexec before the kernel comes to the last point.
    more: list[Json] = [{"boot": "next"}] if activity.ends == "jump" else []
    return [{"start": activity.name}, {"until": _end(activity), "within": _FIRST_S}, *more]


def _end(activity: Activity) -> str:
    """What to wait for when the activity goes to its end."""
    return activity.ends if activity.ends in ("reset", "power-off") else f"{activity.name}.exit"


def _machine(activities: Sequence[Activity], platform: bool) -> list[str]:
    """The section that says what machine it takes, if it says anything."""
    memory = max((activity.memory for activity in activities if activity.memory), default=None)
    machine: Json = {**({"virt": "vmx"} if platform else {}), **({"memory": memory} if memory else {})}
    return [_section("machine", machine)] if machine else []


def point_id(activity: str, number: int) -> str:
    """The name of an activity's point in the scenario, from 1: load-2."""
    return f"{activity}-{number}"


@dataclass
class _Writer:
    script: Script
    schedule: Schedule
    places: Places

    @property
    def cast(self) -> Cast:
        return self.script.cast

    def text(self) -> str:
        sections = [
            _section("title", self.title),
            _section("about", self.about),
            _section("claims", [{"id": id, "text": text, "source": _SOURCE} for id, text in self.claims.items()]),
            *self.setting(),
            _list("steps", self.steps()),
            _list("expect", ((expectation, "") for expectation in self.expectations())),
        ]
        return "".join(sections)

    def prelude(self) -> str:
        """The scenario of what comes before every schedule."""
        waiting = dict.fromkeys(self.cast.names, "UNFINISHED")
        claim = {"id": "waiting", "text": "All wait at their first points.", "source": _SOURCE}
        sections = [
            _section("title", "all wait at their first points"),
            _section("claims", [claim]),
            *self.setting(),
            _list("steps", self.opening()),
            _list("expect", [({"exit": waiting}, "")]),
        ]
        return "".join(sections)

    def setting(self) -> list[str]:
        """On what it is done, and what is traced and held."""
        return [
            _section("kernels", [self.script.kernel]),
            *_machine(self.cast.activities, self.script.platform),
            *([_section("trace", ["vendor_disable"])] if self.once else []),
            _mapping("actors", {activity.name: _actor(activity) for activity in self.cast.activities}, self.abouts),
            _mapping("points", self.points(), self.meanings()),
        ]

    # What it says of itself

    @property
    def title(self) -> str:
        parts = []
        begun: Schedule = ()
        for name, count in blocks(self.schedule):
            begun += (name,) * count
            parts.append(f"{name} {self.destination(begun)}")
        return ", ".join(parts)

    def destination(self, begun: Schedule) -> str:
        """Where the last letter of `begun` brings its activity."""
        name = begun[-1]
        if not self.is_end(begun):
            return f"up to {self.script.points[name][self.after(begun) - 1].text}"
        return f"to the {self.cast[name].ends}" if self.cast[name].ends else "to its end"

    @property
    def about(self) -> str:
        return f"One of the interleavings of {' and '.join(self.cast.names)} that `{self.script.command}` runs."

    @property
    def abouts(self) -> dict[str, str]:
        return {activity.name: activity.about for activity in self.cast.activities}

    @property
    def claims(self) -> dict[str, str]:
        named = {"outcomes": "Each activity succeeds, or fails with an error that the others are a reason for."}
        if self.cast.enders:
            end = " or ".join(sorted(self.cast[name].ends for name in self.cast.enders))
            caught = ", ".join(sorted(set(self.cast.names) - self.ended()))
            also = f", which comes before the end of {caught}" if caught else ""
            named[self.off] = f"No CPU has virtualization on at the {end}{also}."
        else:
            named["as-they-left-it"] = (
                "Virtualization is on where the activities' success says, nothing is left once KVM is unloaded, and "
                "it can be loaded and unloaded again."
            )
        if self.once:
            named["disabled-once"] = "No CPU is disabled twice, and no VMX instruction faults."
        return named

    @property
    def once(self) -> bool:
        """Whether each CPU is enabled once in any schedule, and it can be seen how often it is disabled."""
        return self.script.platform and bool(self.cast.enders) and set(self.cast.names) <= _ENABLE_ONCE

    # What it does

    def before(self, begun: Schedule) -> int:
        """The number of the point that the last letter of `begun` lets its activity go from."""
        return self.places(begun[:-1])[begun[-1]]

    def after(self, begun: Schedule) -> int:
        """The number of the point that it comes to; one more than there are for its end."""
        return self.places(begun)[begun[-1]]

    def is_end(self, begun: Schedule) -> bool:
        """Whether the last letter of `begun` brings its activity to its end."""
        return self.after(begun) > len(self.script.points[begun[-1]])

    def prefixes(self) -> Iterator[Schedule]:
        for length in range(1, len(self.schedule) + 1):
            yield self.schedule[:length]

    def ended(self) -> set[str]:
        """The activities that come to their end."""
        return {begun[-1] for begun in self.prefixes() if self.is_end(begun)}

    @property
    def off(self) -> str:
        """The claim that virtualization is off in the end: another one where the end catches somebody on the way."""
        return "off-at-the-end" if self.ended() == set(self.cast.names) else "off-when-cut-short"

    def reached(self) -> list[tuple[str, int]]:
        """The points that are come to: the activity and the point's number."""
        found = {(name, 1) for name in self.cast.names}
        found |= {(begun[-1], self.after(begun)) for begun in self.prefixes() if not self.is_end(begun)}
        return sorted(found, key=lambda place: (self.cast.names.index(place[0]), place[1]))

    def points(self) -> dict[str, Json]:
        return {point_id(name, i): _point(name, self.script.points[name][i - 1]) for name, i in self.reached()}

    def meanings(self) -> dict[str, str]:
        return {point_id(name, i): self.script.points[name][i - 1].meaning for name, i in self.reached()}

    def opening(self) -> Iterator[tuple[Json, str]]:
        """The steps until all wait at their first points, each with what it means; "" where it says itself."""
        yield from ((step, "") for step in set_up(self.cast.activities))
        for name in self.cast.names:
            yield {"start": name}, ""
            yield {**_hold(name, 1), "within": _FIRST_S}, f"{name} is held {self.script.points[name][0].meaning}"

    def steps(self) -> Iterator[tuple[Json, str]]:
        """All steps."""
        yield from self.opening()
        for begun in self.prefixes():
            name = begun[-1]
            if self.is_end(begun) and self.cast[name].ends == "jump":
                yield {"sample": "jump"}, "the machine does not stand still for it"
            yield {"release": point_id(name, self.before(begun))}, ""
            if self.is_end(begun):
                yield {"until": _end(self.cast[name]), "within": _FIRST_S}, ""
            else:
                number = self.after(begun)
                yield _hold(name, number), f"{name} is held {self.script.points[name][number - 1].meaning}"
        if not self.cast.enders:
            yield from ((step, "") for step in self.closing())

    def closing(self) -> Iterator[Json]:
        """Takes everything down, and looks whether all of it works once more."""
        yield {"sample": "after"}
        for activity in self.cast.activities:
            yield from activity.undo
        # One of the activities may have unloaded the first.
        yield {"unload": "kvm_vendor", "id": "unload-vendor"}
        yield {"unload": "kvm", "id": "unload-kvm"}
        yield {"sample": "unloaded"}
        yield {"run": "! grep kvm/ /sys/devices/system/cpu/hotplug/states", "id": "no-state-left"}
        yield {"load": "kvm_vendor", "id": "load-again"}
        yield {"sample": "again"}
        yield {"unload": ["kvm_vendor", "kvm"], "id": "unload-again"}
        yield {"sample": "unloaded-again"}

    # What must be true

    def expectations(self) -> list[Json]:
        ended = self.ended()
        outcomes = {name: self.outcomes(name) if name in ended else ["UNFINISHED"] for name in self.cast.names}
        expected: list[Json] = [
            {
                "exit": {name: wanted[0] if len(wanted) == 1 else wanted for name, wanted in outcomes.items()},
                "claim": "outcomes",
            }
        ]
        if self.cast.enders:
            end = next(self.cast[name].ends for name in sorted(self.cast.enders & ended))
            expected.append({"virt": {"at": end, "on": "none"}, "claim": self.off})
        else:
            expected += self.closing_expectations()
        if self.once:
            expected += [
                {"count": {"event": "vendor_disable", "per": "cpu", "max": 1}, "claim": "disabled-once"},
                *({"never": f"{name}[fault=UD]", "claim": "disabled-once"} for name in ("vmxon", "vmxoff")),
            ]
        return expected

    def outcomes(self, name: str) -> list[str]:
        """What an activity that came to its end may have ended with: others are a reason once they have begun."""
        last = max(place for place, letter in enumerate(self.schedule) if letter == name)
        begun = self.script.given.union(self.schedule[:last])
        return self.cast[name].outcomes_beside(self.cast.others(name), begun)

    def undoing(self, activity: Activity) -> str | list[str]:
        """What becomes of its undo steps: there is nothing to undo where it failed."""
        others = self.cast.others(activity.name)
        return "OK" if activity.outcomes_beside(others, self.cast.names) == ["OK"] else ["OK", "ENOENT", "ENXIO"]

    def closing_expectations(self) -> Iterator[Json]:
        claim = {"claim": "as-they-left-it"}
        if on := _virt_after(set(self.cast.names), self.script.old):
            yield {"virt": {"at": "after", "on": on}, **claim}
        unload = ["OK", "ENOENT"] if "unload" in self.cast.names else "OK"
        undone = {
            str(step["id"]): self.undoing(activity) for activity in self.cast.activities for step in activity.undo
        }
        later = ("unload-kvm", "no-state-left", "load-again", "unload-again")
        yield {"exit": {**undone, "unload-vendor": unload, **dict.fromkeys(later, "OK")}, **claim}
        yield {"virt": {"at": "unloaded", "on": "none"}, **claim}
        yield {"state": {"at": "unloaded", "are": {"devices.kvm": 0, "modules.kvm": "absent"}}, **claim}
        yield {"virt": {"at": "again", "on": "none" if self.script.old else "all"}, **claim}
        yield {"virt": {"at": "unloaded-again", "on": "none"}, **claim}


_SOURCE = "harness explore"

# Beside these every CPU is enabled once at most.
_ENABLE_ONCE = {"load", "vm", "reboot", "poweroff"}


def _virt_after(names: set[str], old: bool) -> str:
    """Where virtualization is on when all activities have succeeded; "" where their order decides."""
    if "vm" in names:
        return "" if "unload" in names else "all"
    if "load" in names:
        return "" if "unload" in names else "none" if old else "all"
    return "none" if names & {"unload", "close", "refused"} or old else "all"


def _actor(activity: Activity) -> Json:
    return activity.step if activity.cpu is None else {**activity.step, "cpu": activity.cpu}


def _point(name: str, point: SyncPoint) -> Json:
    whose = {} if point.anyone else {"task": point.task} if point.task else {"actor": name}
    more: Json = {"phase": point.phase} if point.phase != "call" else {}
    if point.hit > 1:
        more["hit"] = point.hit
    return {"function": point.function, **more, **whose}


def _hold(name: str, number: int) -> Json:
    return {"hold": point_id(name, number), "within": _HOLD_S}


# --- YAML ------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Writes YAML 1.2's core schema, as scenarios are read: `on` and `off` are text and need no quotes."""


_Dumper.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":bool")]
    for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
}


def _section(key: str, data: Any) -> str:
    return yaml.dump({key: data}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _inline(data: Any) -> str:
    return _flow(json.dumps(data, ensure_ascii=False))


@cache
def _flow(data: str) -> str:
    """JSON data as YAML on one line; schedules have most of their lines in common, and a dump takes 1 ms."""
    loaded = json.loads(data)
    text = yaml.dump(loaded, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def _mapping(key: str, rows: Mapping[str, Json], comments: Mapping[str, str]) -> str:
    """A mapping of names, each with its value on one line."""
    lines = [f"  {name}: {_inline(value)}{_comment(comments.get(name, ''))}" for name, value in rows.items()]
    return "\n".join([f"{key}:", *lines]) + "\n"


def _list(key: str, rows: Iterable[tuple[Json, str]]) -> str:
    """A list of mappings, each key with its value on one line."""
    lines = [f"{key}:"]
    for row, comment in rows:
        first, *rest = (f"{name}: {_inline(value)}" for name, value in row.items())
        lines += [f"  - {first}{_comment(comment)}", *(f"    {line}" for line in rest)]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return f"  # {text}" if text else ""
