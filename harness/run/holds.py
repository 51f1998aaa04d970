"""The holds of a run: points armed, tasks held, let go or lost; and what is told of it afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.deadline import Deadline
from harness.errors import NotExercised
from harness.guest.actor import Actor
from harness.guest.tasks import Task
from harness.machine.machine import Machine
from harness.machine.state import ENDED, State
from harness.probes.points import ArmedPoint, Held, Holder
from harness.run.holders import Holders
from harness.scenario.kinds import HoldMode

# What the kernel is booted with in a scenario with points: soft holds need a kernel that preempts, and an interrupt
# that goes to a stopped CPU is never served (without irqaffinity the console was dead in 3 of 3 hard holds).
CMDLINE = "irqaffinity=0 preempt=full"

# Documentation/scheduler: models under which another task gets the CPU of a loop in the kernel, lazily at a tick.
_PREEMPTING = ("full", "lazy", "rt")

# A watchdog looks back: its complaint about a stopped CPU comes when the CPU goes on.
_ECHO_S = 5.0

_TAKES_TASKS = frozenset({State.RESET, State.OFF})


MissedWhy = Literal["exited", "elsewhere", "ended", "asleep", "running"]


class MissedHold(NotExercised):
    """Nobody came to a point.

    `why`: its actor came to its end (exited) or to another of its points (elsewhere), or the machine came to its end
    (ended); somebody slept uninterruptibly until everybody was let go (asleep); none of these (running). `detail` is
    the actor's outcome or that other point. `sleeping` says where each actor sleeps, and under "" where tasks that
    are no actor's do: somebody whose worker is held sleeps as well, and keeps nobody from the point.
    """

    def __init__(
        self,
        point: str,
        why: MissedWhy,
        what: str,
        *,
        detail: str = "",
        sleeping: Mapping[str, str] | None = None,
        evidence: str = "",
    ) -> None:
        super().__init__(what, evidence=evidence)
        self.point = point
        self.why = why
        self.detail = detail
        self.sleeping = sleeping or {}

    def to_json(self) -> dict[str, Any]:
        """As run.json has it."""
        return {"point": self.point, "why": self.why, "detail": self.detail, "sleeping": dict(self.sleeping)}


@dataclass
class Hold:
    """What became of one point at which a task was held."""

    held: Held
    mode: HoldMode
    symbol: str
    holder: str
    ended: float | None = None
    end: str = ""  # released, lost, end of run


@dataclass
class Holds:
    """The points of a run. `points` are as a holder takes them but for the pid; `actors` says whose each is."""

    points: Mapping[str, ArmedPoint]
    actors: Mapping[str, str]  # point -> actor
    holders: Holders
    preemption: str = ""  # the model that the kernel runs with; "" while it is not known
    done: dict[str, Hold] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)  # pids of tasks that were seen to wait while somebody was held
    _armed: set[str] = field(default_factory=set)
    _by: dict[str, Holder] = field(default_factory=dict)  # who holds at a point that was armed
    _began: float = field(default_factory=time.monotonic)

    def arm(self, machine: Machine, deadline: Deadline) -> None:
        """Arms the points that are no actor's. Raises what `Holder.arm` raises."""
        self._arm((name for name in self.points if name not in self.actors), 0, machine, deadline)

    def arm_for(self, actor: Actor, deadline: Deadline) -> None:
        """Arms the points of an actor, before it does anything."""
        own = (name for name in self.points if self.actors.get(name) == actor.step.id)
        self._arm(own, actor.pid, actor.session.machine, deadline)

    def _arm(self, names: Iterable[str], pid: int, machine: Machine, deadline: Deadline) -> None:
        for name in names:
            point = self.points[name]
            self.holders.of(point.mode, deadline).arm(replace(point, pid=pid), deadline)
            self._by[name] = self.holders.of(point.mode, deadline)
            self._armed.add(name)

    def wait(self, name: str, machine: Machine, actor: Actor | None, deadline: Deadline) -> Held:
        """Waits until a task is held at the point.

        Raises NotExercised for one that is held where its mode cannot work, MissedHold for an actor that came to its
        end elsewhere and for a machine that did; DeadlineExceeded; and what ended the guest or the holder.
        """
        if name not in self._by:
            raise NotExercised(f"point {name!r} was never armed: actor {self.actors[name]!r} was not started here")
        holder = self._by[name]

        def look() -> Held | None:
            holder.check()
            held = holder.held(name)
            if held is None and machine.check() in ENDED:
                what = f"nobody came to point {name!r}: the machine is {machine.state.value}"
                raise MissedHold(name, "ended", what)
            if held is None and actor is not None and (result := actor.result()) is not None:
                what = f"actor {actor.step.id!r} came to its end ({result.value}) without coming to point {name!r}"
                raise MissedHold(name, "exited", what, detail=result.value)
            if held is None and (other := self._other_of_actor(name)):
                what = f"actor {self.actors[name]!r} came to point {other!r} without coming to {name!r}"
                raise MissedHold(name, "elsewhere", what, detail=other)
            return held

        held = machine.watch(look, deadline)
        self._note(name, held)
        self._require_soft(held, self.points[name].mode)
        return held

    def _note(self, name: str, held: Held) -> None:
        point = self.points[name]
        self.done.setdefault(name, Hold(held, point.mode, point.symbol, self._by[name].name))

    def _other_of_actor(self, name: str) -> str:
        """Another point of the same actor at which it is held, and no step has waited for that; "" for none.

        An actor may be of several tasks: where one is held, another can still come to the point.
        """
        unawaited = sorted(self._armed - {name} - self.done.keys())
        own = (other for other in unawaited if self.actors.get(other, "") == self.actors.get(name))
        return next((other for other in own if self._by[other].held(other) is not None), "")

    def _require_soft(self, held: Held, mode: HoldMode) -> None:
        if mode != "soft":
            return
        if self.preemption not in _PREEMPTING:
            why = f"the kernel runs with preemption model {self.preemption!r}, under which nobody else gets the CPU"
        elif held.preempt_count:
            why = f"preemption is off there (preempt_count {held.preempt_count:#x})"
        elif not held.interrupts:
            why = "interrupts are off there"
        else:
            return
        raise NotExercised(
            f"no soft hold of {held.task}-{held.pid} at point {held.point!r}: {why}",
            hint="write `mode: busy` if the CPU is to be kept from others, or hold elsewhere",
        )

    def release(self, name: str, deadline: Deadline) -> str:
        """Disarms the point and lets its task go; says what became of the hold."""
        if name not in self._by:  # an actor's, which was not started on this kernel
            return "it was not armed"
        self.notice_lost()
        self._armed.discard(name)
        self._by[name].release(name, deadline)
        self._finish(name, "released")
        return self.done[name].end if name in self.done else "nobody was held"

    def release_all(self, end: str, deadline: Deadline) -> list[Held]:
        """Lets everybody go; returns who was held."""
        self.notice_lost()
        active = self.active
        for name, held in active.items():  # also who came to a point that no step has waited for yet
            self._note(name, held)
        for name in sorted(self._armed):
            self._by[name].release(name, deadline)
            self._finish(name, end)
        self._armed.clear()
        return list(active.values())

    def forget_actors(self, deadline: Deadline) -> None:
        """After a boot: its tasks are no more, and their pids will be others'."""
        self.notice_lost()
        for name in sorted(self._armed & self.actors.keys()):
            self._by[name].release(name, deadline)
            self._armed.discard(name)

    def notice_lost(self) -> None:
        """Notes the tasks that a reset or power-off took while they were held.

        The plugin says so when the next kernel starts, if one does.
        """
        if self.holders.machine.state in _TAKES_TASKS:
            for name in self.active:
                self._finish(name, "lost")
        for holder in self.holders.made.values():
            for name in holder.lost():
                self._finish(name, "lost")

    def close(self) -> None:
        """Lets everybody go and ends the holders."""
        self.notice_lost()
        for holder in self.holders.made.values():
            holder.close()
        for name in self.done:
            self._finish(name, "end of run")

    def _finish(self, name: str, end: str) -> None:
        hold = self.done.get(name)
        if hold is not None and not hold.end:
            hold.end, hold.ended = end, time.monotonic()

    @property
    def active(self) -> dict[str, Held]:
        """Who is held now, by point; also one that no step has waited for yet."""
        found = {name: self._by[name].held(name) for name in sorted(self._armed)}
        return {name: held for name, held in found.items() if held is not None}

    @property
    def stop_a_cpu(self) -> bool:
        """Whether a vCPU is stopped now."""
        return any(self.points[name].mode == "hard" for name in self.active)

    def note_waiting(self, tasks: Iterable[Task]) -> None:
        """Notes tasks that sleep while somebody is held."""
        if self.active:
            self.waiting |= {task.pid for task in tasks}

    def describe(self) -> str:
        """Who is held where, as evidence."""
        return "\n".join(
            f"held at {name}: {held.task}-{held.pid} on CPU {held.cpu}, in {self.points[name].symbol}()"
            for name, held in self.active.items()
        )

    def to_json(self, machine: Machine | None) -> list[dict[str, Any]]:
        """The holds as run.json has them; `lines` is the range of console lines in which they are heard."""
        return [
            {
                "point": name,
                "symbol": hold.symbol,
                "holder": hold.holder,
                "mode": hold.mode,
                "cpu": hold.held.cpu,
                "task": hold.held.task,
                "pid": hold.held.pid,
                "preempt_count": hold.held.preempt_count,
                "interrupts": hold.held.interrupts,
                "preemptible": hold.held.preemptible,
                "at": round(hold.held.at - self._began, 3),
                "ended": None if hold.ended is None else round(hold.ended - self._began, 3),
                "end": hold.end,
                "lines": _lines(machine, hold),
            }
            for name, hold in self.done.items()
        ]


def _lines(machine: Machine | None, hold: Hold) -> list[int]:
    lines = machine.console.lines() if machine is not None else []
    last = (hold.ended or time.monotonic()) + _ECHO_S
    heard = [line.number for line in lines if hold.held.at <= line.at <= last]
    return [heard[0], heard[-1] + 1] if heard else [len(lines), len(lines)]
