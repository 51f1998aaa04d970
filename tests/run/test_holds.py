"""The book-keeping of holds, with a holder that does what a test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import pytest

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, NotExercised
from harness.guest.actions import Result
from harness.guest.actor import Actor
from harness.machine.console import Line
from harness.machine.machine import Machine
from harness.machine.state import State
from harness.probes.points import ArmedPoint, Held, Holder
from harness.run.holders import Holders
from harness.run.holds import Holds, MissedHold
from harness.scenario.kinds import HoldMode

T = TypeVar("T")

SOON = Deadline.after(5, "a test")
AT_CALL = Held("p", 1, "guestctl", 172, 0, True)


class FakeHolder:
    """A holder of tasks that are there as soon as the point is armed."""

    name = "plugin"

    def __init__(self, held: Held | None = AT_CALL) -> None:
        self.comes = held
        self.armed: dict[str, ArmedPoint] = {}
        self.gone: list[str] = []
        self.nobody_at = ""

    def arm(self, point: ArmedPoint, deadline: Deadline) -> None:
        self.armed[point.name] = point

    def held(self, name: str) -> Held | None:
        return self.comes if name in self.armed and name != self.nobody_at else None

    def release(self, name: str, deadline: Deadline) -> None:
        self.armed.pop(name, None)

    def lost(self) -> tuple[str, ...]:
        return tuple(self.gone)

    def check(self) -> None:
        pass

    def close(self) -> None:
        self.armed.clear()


class FakeHolders:
    def __init__(self, holder: Holder) -> None:
        self.made = {holder.name: holder}
        self.machine = FakeMachine()

    def of(self, mode: HoldMode, deadline: Deadline) -> Holder:
        return self.made["plugin"]


class FakeMachine:
    """A machine that is in one state, and looked at once."""

    def __init__(self, state: State = State.RUNNING) -> None:
        self.state = state

    def check(self, *allowed: State) -> State:
        return self.state

    def watch(self, look: Callable[[], T | None], deadline: Deadline) -> T:
        answer = look()
        if answer is None:
            raise deadline.exceeded()
        return answer


class FakeActor:
    def __init__(self, result: Result | None, pid: int = 171) -> None:
        self._result, self.pid = result, pid
        self.step = type("Step", (), {"id": "loader"})
        self.session = type("Session", (), {"machine": FakeMachine()})

    def result(self) -> Result | None:
        return self._result


def holds(holder: FakeHolder, *points: ArmedPoint, actors: dict[str, str] | None = None) -> Holds:
    named = {point.name: point for point in points or (ArmedPoint("p", "f"),)}
    made = Holds(named, actors or {}, cast("Holders", FakeHolders(holder)), preemption="full")
    made.arm(machine(), SOON)
    return made


def machine(state: State = State.RUNNING) -> Machine:
    return cast("Machine", FakeMachine(state))


def actor(result: Result | None) -> Actor:
    return cast("Actor", FakeActor(result))


def test_an_actor_s_point_is_armed_for_its_pid_and_not_before() -> None:
    holder = FakeHolder()
    made = holds(holder, ArmedPoint("p", "f"), ArmedPoint("q", "g"), actors={"p": "loader"})
    assert list(holder.armed) == ["q"]
    made.arm_for(actor(None), SOON)
    assert holder.armed["p"].pid == 171


def test_the_point_of_an_actor_that_was_not_started_is_not_exercised() -> None:
    made = holds(FakeHolder(), actors={"p": "loader"})
    with pytest.raises(NotExercised, match="never armed: actor 'loader' was not started here"):
        made.wait("p", machine(), None, SOON)
    assert made.release("p", SOON) == "it was not armed"


def test_a_hold_has_its_end_and_who_was_held() -> None:
    made = holds(FakeHolder())
    assert made.wait("p", machine(), None, SOON) == AT_CALL
    assert list(made.active) == ["p"]
    assert made.describe() == "held at p: guestctl-172 on CPU 1, in f()"
    assert made.release("p", SOON) == "released"
    assert made.active == {}
    (told,) = _told(made)
    assert (told["end"], told["pid"], told["symbol"], told["preemptible"]) == ("released", 172, "f", True)


def _told(made: Holds) -> list[dict[str, Any]]:
    return made.to_json(None)


@pytest.mark.parametrize(
    ("held", "preemption", "why"),
    [
        (AT_CALL, "none", "preemption model 'none'"),
        (AT_CALL, "unknown", "preemption model 'unknown'"),
        (Held("p", 1, "x", 9, 1, True), "full", "preempt_count 0x1"),
        (Held("p", 1, "x", 9, 0, False), "lazy", "interrupts are off there"),
    ],
)
def test_a_soft_hold_that_would_be_another_one_is_not_exercised(held: Held, preemption: str, why: str) -> None:
    made = holds(FakeHolder(held))
    made.preemption = preemption
    with pytest.raises(NotExercised, match=why) as caught:
        made.wait("p", machine(), None, SOON)
    assert "mode: busy" in str(caught.value)


@pytest.mark.parametrize("mode", ["busy", "hard"])
def test_who_wants_the_cpu_kept_gets_it(mode: HoldMode) -> None:
    made = holds(FakeHolder(Held("p", 1, "x", 9, 1, False)), ArmedPoint("p", "f", mode=mode))
    made.preemption = "none"
    assert made.wait("p", machine(), None, SOON).cpu == 1


@pytest.mark.parametrize(
    ("state", "result", "why"),
    [
        (State.RUNNING, Result("EBUSY"), r"'loader' came to its end \(EBUSY\) without coming to point 'p'"),
        (State.RESET, None, "nobody came to point 'p': the machine is paused at its reset"),
    ],
)
def test_who_cannot_come_any_more_is_not_waited_for(state: State, result: Result | None, why: str) -> None:
    made = holds(FakeHolder(None))
    with pytest.raises(NotExercised, match=why):
        made.wait("p", machine(state), actor(result), SOON)


def test_a_hold_is_heard_on_the_console_from_its_begin_on_whenever_a_step_waits_for_it() -> None:
    made = holds(FakeHolder(replace(AT_CALL, at=100.0)))
    made.wait("p", machine(), None, SOON)
    lines = [Line(number, at, "") for number, at in enumerate((99.0, 101.0, 150.0))]
    console = type("Console", (), {"lines": lambda self: lines})()
    (told,) = made.to_json(cast("Machine", type("Machine", (), {"console": console})()))
    assert told["lines"] == [1, 3]


def test_an_actor_that_is_held_elsewhere_is_not_waited_for_unless_a_step_has_waited_for_that() -> None:
    holder = FakeHolder()
    both = ArmedPoint("p", "f"), ArmedPoint("q", "g")
    made = holds(holder, *both, actors={"p": "loader", "q": "loader"})
    made.arm_for(actor(None), SOON)
    holder.nobody_at = "q"
    with pytest.raises(MissedHold, match="'loader' came to point 'p' without coming to 'q'"):
        made.wait("q", machine(), actor(None), SOON)
    made.wait("p", machine(), actor(None), SOON)
    with pytest.raises(DeadlineExceeded):  # another task of the actor may come
        made.wait("q", machine(), actor(None), SOON)


def test_a_task_that_a_reset_took_was_not_released() -> None:
    holder = FakeHolder()
    made = holds(holder)
    made.wait("p", machine(), None, SOON)
    holder.gone.append("p")
    assert made.release("p", SOON) == "lost"
    assert _told(made)[0]["end"] == "lost"


@pytest.mark.parametrize("state", [State.RESET, State.OFF])
def test_nobody_is_let_go_from_a_machine_at_its_end(state: State) -> None:
    made = holds(FakeHolder())
    made.wait("p", machine(), None, SOON)
    cast("FakeMachine", made.holders.machine).state = state
    assert made.release("p", SOON) == "lost"


def test_everybody_is_let_go_at_the_end() -> None:
    holder = FakeHolder()
    made = holds(holder, ArmedPoint("p", "f"), ArmedPoint("q", "g"))
    made.wait("p", machine(), None, SOON)
    assert [held.point for held in made.release_all("end of run", SOON)] == ["p", "p"]
    assert holder.armed == {}
    assert [(hold["point"], hold["end"]) for hold in _told(made)] == [("p", "end of run"), ("q", "end of run")]
    made.close()
    assert _told(made)[0]["end"] == "end of run"


def test_the_pids_of_one_boot_are_not_those_of_the_next() -> None:
    holder = FakeHolder(None)
    made = holds(holder, ArmedPoint("p", "f"), ArmedPoint("q", "g"), actors={"p": "loader"})
    made.arm_for(actor(None), SOON)
    made.forget_actors(SOON)
    assert list(holder.armed) == ["q"]
