"""A scenario's steps gone through on paper: who has been started, who is held, who is waited for.

What cannot work in any run is a fault here; what depends on the kernel is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import singledispatchmethod

from harness.scenario.faults import Faults, closest
from harness.scenario.model import Scenario
from harness.scenario.steps import (
    MACHINE_ENDS,
    Close,
    Hold,
    Offline,
    Poweroff,
    Reboot,
    Release,
    Start,
    Step,
    Until,
    Vm,
)


def unknown(noun: str, name: str, known: Iterable[str]) -> tuple[str, str]:
    """The fault, and its hint, for a name that nothing has."""
    names = list(known)
    return f"there is no {noun} {name!r}", closest(name, names) if names else f"the scenario has no {noun}s"


@dataclass
class Sequence:
    """How things stand before the next step of one order of the steps."""

    scenario: Scenario
    faults: Faults
    started: set[str] = field(default_factory=set)
    awaited: set[str] = field(default_factory=set)
    held: dict[str, Hold] = field(default_factory=dict)  # point -> the step, released or not
    released: set[str] = field(default_factory=set)
    vms: set[str] = field(default_factory=set)
    _index: int = 0

    @classmethod
    def check(cls, scenario: Scenario, faults: Faults) -> None:
        """Adds a fault for each step that cannot work where it stands, and for actors and points without a step."""
        sequence = cls(scenario, faults)
        sequence.vms = {name for name, actor in scenario.actors.items() if isinstance(actor, Vm)}
        for index, step in enumerate(scenario.steps):
            sequence._index = index
            sequence.take(step)
        for name in scenario.actors.keys() - sequence.started:
            faults.add(("actors", name), f"actor {name!r} is never started")
        for name in scenario.points.keys() - sequence.held.keys():
            what = f"a task held at {name!r} would never be waited for"
            faults.add(("points", name), what, f"add a step `hold: {name}`")

    def _fault(self, what: str, hint: str = "") -> None:
        self.faults.add(("steps", self._index), what, hint)

    @property
    def _holding(self) -> list[Hold]:
        """The holds that last."""
        return [step for name, step in self.held.items() if name not in self.released]

    @singledispatchmethod
    def take(self, step: Step) -> None:
        """Goes over a step."""

    @take.register
    def _(self, step: Start) -> None:
        if step.actor not in self.scenario.actors:
            self._fault(*unknown("actor", step.actor, self.scenario.actors))
        elif step.actor in self.started:
            self._fault(f"actor {step.actor!r} is started twice", "declare another actor")
        self.started.add(step.actor)

    @take.register
    def _(self, step: Until) -> None:
        if step.actor:
            self._await(step.actor)
        elif step.what and step.what not in MACHINE_ENDS:
            hint = f"write ACTOR.exit, {', '.join(MACHINE_ENDS)}, or a mapping with event, dmesg or state"
            self._fault(f"cannot wait for {step.what!r}", hint)
        elif step.what and any(isinstance(self.scenario.actors.get(name), _ENDERS) for name in self.started):
            self._end_machine(f"the machine's {step.what}")

    def _await(self, actor: str) -> None:
        if actor not in self.started:
            self._fault(f"actor {actor!r} has not been started by a step before this one")
        elif actor in self.awaited:
            self._fault(f"actor {actor!r} has already been waited for")
        self.awaited.add(actor)
        # A VM's process goes on after its actor, which has then only opened it.
        for hold in self._holding:
            if self._actor_at(hold.point) == actor and not isinstance(self.scenario.actors.get(actor), Vm):
                what = f"actor {actor!r} is held at {hold.point!r} then: it cannot come to its end"
                self._fault(what, f"put `release: {hold.point}` before this step")

    @take.register
    def _(self, step: Hold) -> None:
        if step.point not in self.scenario.points:
            self._fault(*unknown("point", step.point, self.scenario.points))
        elif step.point in self.held:
            self._fault(f"point {step.point!r} is held twice", "a release disarms a point: declare another one")
        actor = self._actor_at(step.point)
        if actor in self.scenario.actors and actor not in self.started:
            self._fault(f"actor {actor!r} has not been started by a step before this one")
        elif actor in self.awaited and not isinstance(self.scenario.actors.get(actor), Vm):
            self._fault(f"actor {actor!r} has come to its end by then")
        self.held[step.point] = step

    @take.register
    def _(self, step: Release) -> None:
        if step.point not in self.held:
            self._fault(f"point {step.point!r} is released but no step before this one holds it")
        elif step.point in self.released:
            self._fault(f"point {step.point!r} is released twice")
        self.released.add(step.point)

    @take.register
    def _(self, step: Vm) -> None:
        self.vms.add(step.id)

    @take.register
    def _(self, step: Close) -> None:
        if step.vm not in self.vms:
            self._fault(*unknown("VM opened before this step", step.vm, self.vms))

    @take.register(Reboot)
    @take.register(Poweroff)
    def _(self, step: Reboot | Poweroff) -> None:
        self._end_machine(f"a {step.kind}")

    def _end_machine(self, what: str) -> None:
        """x86's stop_other_cpus() waits for every CPU (measured: no reset in 60 s); reboot=force leaves it out."""
        forced = any(word.startswith("reboot=") and "f" in word for word in self.scenario.machine.cmdline.split())
        for hold in self._holding:
            if hold.mode == "hard" and not forced and self.scenario.machine.ceiling > 1:
                hint = f"put `release: {hold.point}` before it, or hold in `mode: soft`, which lets the IPI in"
                self._fault(
                    f"the CPU stopped at {hold.point!r} takes no IPI: {what} would wait for it for ever", hint
                )

    @take.register
    def _(self, step: Offline) -> None:
        for hold in self._holding:
            point = self.scenario.points.get(hold.point)
            if hold.mode == "hard" and point is not None and point.cpu == step.target:
                what = f"CPU {step.target} is stopped at {hold.point!r} then: it cannot go offline"
                self._fault(what, f"put `release: {hold.point}` before this step")

    def _actor_at(self, point: str) -> str:
        found = self.scenario.points.get(point)
        return (found.actor or "") if found is not None else ""


_ENDERS = (Reboot, Poweroff)
