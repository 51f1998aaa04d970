"""The steps of a run, on a live machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatchmethod

from harness import progress
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HarnessError, NotExercised
from harness.folder import RunFolder
from harness.guest.actions import Result, perform
from harness.guest.actor import Actor
from harness.guest.hang import StepHung, held_or_hung, hung_below, why_hung
from harness.guest.outcome import HUNG, STEPS_LOG, UNFINISHED, Outcome
from harness.guest.session import Session
from harness.guest.tasks import Task, asleep, below, blocked_by_console, leaves, look, look_twice
from harness.machine.ending import EndingKind, GuestEnded, GuestInDoubt, HangInDoubt
from harness.machine.machine import NoCrashKernel
from harness.machine.state import ENDED, State
from harness.observe.sample import AT_RESET, SAMPLES_LOG
from harness.observe.sampler import take_sample
from harness.probes.tracer import Tracer
from harness.run.events import EventLog
from harness.run.holds import Holds, MissedHold
from harness.run.prelude import Prelude
from harness.run.until import Moment, condition
from harness.scenario.model import Scenario
from harness.scenario.steps import (
    Boot,
    GuestStep,
    Halt,
    Hold,
    Kexec,
    Panic,
    Poweroff,
    Reboot,
    Release,
    Sample,
    Start,
    Step,
    Suspend,
    Until,
)

_BOOT_S = 120.0  # 4-8 s under TCG on an idle host
_FINISH_S = 20.0
_LOOK_S = 15.0  # at the guest's tasks, for a message; 50 ms on an idle host
_STABLE_S = 0.5  # between two looks at a task that is meant to block

# For actors that nobody waited for, once everything is released.
_GRACE_S = 2.0
_END_S = 20.0  # for one that ends the machine: 7 s under TCG
_OTHERS_S = 60.0  # for those that others may wait for

# Steps after which this boot's guest says nothing more: the trace is followed to the end before them.
_BOOT_ENDERS = (Reboot, Poweroff, Halt, Kexec, Panic)

# It stands already, or its memory is another kernel's. A panicked kernel still runs.
_NOT_TO_BE_PAUSED = ENDED - {State.PANICKED}

# Samples that are taken by themselves, with the guest paused.
_SAMPLED_ENDS = {State.RESET: AT_RESET, State.OFF: "power-off"}


def _stands_after(step: Step) -> bool:
    """Whether the machine stands still after the step, its memory not yet another kernel's."""
    return isinstance(step, (Reboot, Poweroff, Halt)) or (isinstance(step, Panic) and not step.crash_kernel)


@dataclass
class Steps:
    """The steps of a run on a live machine."""

    scenario: Scenario
    session: Session
    tracer: Tracer
    folder: RunFolder
    booted: Callable[[Session, dict[str, str]], None]
    holds: Holds
    log: EventLog
    actors: dict[str, Actor] = field(default_factory=dict)  # started in this boot, and not known to be done
    # Whose channels stay: dropbear ends the whole connection when one is closed that it is still writing to.
    _over: list[Actor] = field(default_factory=list)
    _before: Moment | None = None  # when the step before began
    _waits_for_events: bool = False

    def run(self, steps: list[Step], then: Callable[[], None] = lambda: None) -> None:
        """Boots, does `steps` one after the other, then `then`, and finishes the trace. Nobody is held afterwards."""
        self.session.when_asleep = self._sample
        with progress.task("boot", _BOOT_S):
            deadline = Deadline.after(_BOOT_S, "the guest's boot")
            self.session.start(deadline)
            self._enter_boot(deadline)
            self.holds.arm(self.session.machine, deadline)
        self._do_all(steps, then)

    def go_on(self, prelude: Prelude, steps: list[Step]) -> None:
        """The same from where the prelude ended: `steps` are those that come after it."""
        deadline = Deadline.after(_BOOT_S, "going on from a snapshot")
        machine = self.session.machine
        self.session.when_asleep = self._sample
        self.session.online = prelude.online
        self.holds.preemption = prelude.preemption
        for started in prelude.actors:
            step = self.scenario.actors[started.name]
            actor = Actor(step, self.session, None, started.pid, started.boot, started.online, _since=started.console)
            self.actors[started.name] = actor
        # A task that is held begins its loop anew: there must be a point where it stands.
        self.holds.arm(machine, deadline)
        for actor in self.actors.values():
            self.holds.arm_for(actor, deadline)
        self.session.start(deadline)
        for actor in self.actors.values():
            actor.expect_end()
        for name in prelude.held:
            self.holds.wait(name, machine, None, deadline)
        if any(isinstance(step, (GuestStep, Sample, Start)) for step in steps):
            self.session.shell.connect(deadline)
        self._do_all(steps)

    def _do_all(self, steps: list[Step], then: Callable[[], None] = lambda: None) -> None:
        self._waits_for_events = any(isinstance(step, Until) and step.event for step in steps)
        try:
            for step in steps:
                with progress.task(step.title, step.seconds):
                    self._do(step)
            then()
            self._end()
        except HarnessError:
            self._let_go()
            self._salvage()
            raise
        finally:
            self.holds.close()

    def _salvage(self) -> None:
        """Takes the trace of a guest that may answer no more, up to where it is."""
        deadline = Deadline.after(_FINISH_S, "the rest of the trace")
        with contextlib.suppress(HarnessError):
            if self.session.machine.state not in _NOT_TO_BE_PAUSED:
                self.session.machine.pause(deadline)
            self.tracer.take_leftover(self.session, deadline)

    def _enter_boot(self, deadline: Deadline) -> None:
        self.session.enter(deadline)
        self.booted(self.session, self.tracer.arm(self.session, deadline))

    def _do(self, step: Step) -> None:
        begin = time.monotonic()
        machine = self.session.machine
        boot, online, position = machine.boot.number, self.session.online, machine.console.position
        deadline = Deadline.after(step.seconds, f"step {step.id!r}")
        if self._waits_for_events:  # what was before this step is not to be taken for what came in it
            self.tracer.look(self.session, deadline)
        moment = Moment.now(self.session, self.log)
        result = Result(UNFINISHED)
        try:
            result = self._perform(step, deadline)
        except (DeadlineExceeded, GuestEnded, GuestInDoubt, StepHung, NoCrashKernel) as error:
            raise self._doubted(self._why(step, error)) from error
        finally:
            self._before = moment
            console = tuple(line.text for line in machine.console.lines(position)[-40:])
            outcome = Outcome(
                step.id, step.kind, boot, result.value, time.monotonic() - begin, online, result.detail, console
            )
            self.folder.append(STEPS_LOG, outcome.to_json())
        self._look_at_an_end(deadline)

    def _look_at_an_end(self, deadline: Deadline) -> None:
        """Takes what a machine that stands still has to tell."""
        if (name := _SAMPLED_ENDS.get(self.session.machine.state)) is not None:
            self._sample(name, deadline)
        self.tracer.take_leftover(self.session, Deadline.after(_FINISH_S, "the rest of the trace"))

    def _why(self, step: Step, error: HarnessError) -> HarnessError:
        """The exception for a step that ran out of time, or of a guest: whose fault it is."""
        ending = error.ending.kind if isinstance(error, GuestEnded | GuestInDoubt) else None
        if ending is not None and not (ending is EndingKind.SILENT and self.holds.active):
            return error
        if isinstance(error, StepHung | NoCrashKernel):
            return error
        if not self.holds.active:
            return why_hung(step.id, self.session, error)
        held = self.holds.describe()
        return held_or_hung(step.id, self.session, error, held, self._let_go)

    def _doubted(self, error: HarnessError) -> HarnessError:
        """A hang of which the kernel itself does not tell is not laid to it where KVM's CPUs are emulated."""
        emulator = self.session.machine.emulator
        return HangInDoubt(error, emulator) if emulator and isinstance(error, StepHung | NoCrashKernel) else error

    def _let_go(self) -> None:
        """Releases everybody, whatever else is broken."""
        with contextlib.suppress(HarnessError):
            self.holds.release_all("end of run", Deadline.after(_LOOK_S, "letting go all tasks"))

    # Steps

    @singledispatchmethod
    def _perform(self, step: Step, deadline: Deadline) -> Result:
        if isinstance(step, Suspend):
            self.tracer.outlast_suspend(self.session, deadline)
        if _stands_after(step):
            self.tracer.leave_the_rest(self.session, deadline)
        elif isinstance(step, _BOOT_ENDERS):
            self.tracer.follow_to_the_end(self.session, deadline)
        return perform(step, self.session, deadline)

    @_perform.register
    def _(self, step: Sample, deadline: Deadline) -> Result:
        self._sample(step.name, deadline)
        return Result()

    @_perform.register
    def _(self, step: Boot, deadline: Deadline) -> Result:
        self._settle_actors()
        self.holds.forget_actors(deadline)
        # After a kexec it boots already, unless the jump was one into a reset, which nobody expects.
        if self.session.machine.check() is not State.BOOTING:
            self.session.machine.continue_boot(deadline)
        self._enter_boot(deadline)
        return Result()

    @_perform.register
    def _(self, step: Start, deadline: Deadline) -> Result:
        machine, doing = self.session.machine, self.scenario.actors[step.actor]
        if not machine.has_network(deadline):
            raise NotExercised(
                f"actor {step.actor!r} cannot be started: a reboot has taken the guest's network away",
                hint="start it earlier, and hold it at a point until then",
            )
        if isinstance(doing, Kexec):
            self.tracer.follow_to_the_end(self.session, deadline)
            machine.announce_boot(deadline)
        elif isinstance(doing, _BOOT_ENDERS):
            self.tracer.leave_the_rest(self.session, deadline, streaming=True)
        actor = Actor.prepare(doing, self.session, deadline)
        self.actors[step.actor] = actor
        self.holds.arm_for(actor, deadline)
        actor.go(deadline)
        return Result(detail=self._wait_blocked(actor, deadline) if step.blocks else f"pid {actor.pid}")

    @_perform.register
    def _(self, step: Until, deadline: Deadline) -> Result:
        if step.actor:
            return self._await_actor(step.actor, deadline)
        if step.what:
            return perform(step, self.session, deadline)
        since = self._before or Moment(0, {})
        met = condition(step, self.session, self.log, since, deadline)

        def look() -> bool | None:
            self.session.machine.check()
            if step.event:
                self.tracer.look(self.session, deadline, again=True)
            return met() or None

        try:
            self.session.machine.watch(look, deadline)
        except DeadlineExceeded as late:
            raise NotExercised(f"{step.title}: not within {step.seconds:g} s", evidence=self._whereabouts()) from late
        return Result()

    @_perform.register
    def _(self, step: Hold, deadline: Deadline) -> Result:
        actor = self.actors.get(self.holds.actors.get(step.point, ""))
        try:
            held = self.holds.wait(step.point, self.session.machine, actor, deadline)
        except DeadlineExceeded as late:
            raise self._missed(step, late) from late
        preemptible = "" if held.preemptible else ", not preemptible"
        return Result(detail=f"{held.task}-{held.pid} on CPU {held.cpu}{preemptible}")

    def _missed(self, step: Hold, late: DeadlineExceeded) -> HarnessError:
        """The exception for a point that nobody came to in time; StepHung where an actor stays in the kernel.

        Who sleeps waits for one that is held, or for ever: everybody is let go to find out.
        """
        what = f"nobody came to point {step.point!r} within {step.seconds:g} s"
        sleeping, evidence = self._sleeping(), self._whereabouts()
        if not sleeping:
            return MissedHold(step.point, "running", what, evidence=evidence)
        error = held_or_hung(step.id, self.session, late, self.holds.describe(), self._let_go)
        if isinstance(error, StepHung):
            return error
        where = {name: "\n".join(map(str, tasks)) for name, tasks in sleeping.items()}
        return MissedHold(step.point, "asleep", what, sleeping=where, evidence=evidence)

    def _sleeping(self) -> dict[str, list[Task]]:
        """The tasks of actors that sleep uninterruptibly; under "" those of nobody, such as a kworker."""
        deadline = Deadline.after(_LOOK_S, "the actors' tasks")
        try:
            blocked = blocked_by_console(self.session, deadline)
            tasks, stuck = blocked, list(blocked.values())
            if self.session.machine.has_network(deadline):
                if not self.session.shell.alive:  # after a prelude nobody may have needed it yet
                    self.session.shell.connect(deadline)
                before, tasks = look_twice(self.session, _STABLE_S, deadline)
                stuck = [*asleep(before, tasks), *(task for task in stuck if task.pid not in tasks)]
        except HarnessError:
            return {}
        owners = {pid: name for name, actor in self.actors.items() for pid in below(tasks, [actor.pid])}
        found: dict[str, list[Task]] = {}
        for task in stuck:
            found.setdefault(owners.get(task.pid, ""), []).append(task)
        return found

    @_perform.register
    def _(self, step: Release, deadline: Deadline) -> Result:
        return Result(detail=self.holds.release(step.point, deadline))

    def _sample(self, name: str, deadline: Deadline) -> None:
        """Takes a sample and keeps it."""
        sample = take_sample(name, self.session, deadline, stopped=self.holds.stop_a_cpu)
        self.folder.append(SAMPLES_LOG, sample.to_json())

    # Actors

    def _wait_blocked(self, actor: Actor, deadline: Deadline) -> str:
        """Waits until the actor's task sleeps at one place; says where."""
        while actor.result() is None:
            before, after = look_twice(self.session, _STABLE_S, deadline, [actor.pid])
            waiting = asleep(before, after, "DS")
            if after and all(task in waiting for task in leaves(after)):
                self.holds.note_waiting(waiting)
                return ", ".join(f"{task.name}-{task.pid} sleeps in {task.place}()" for task in leaves(after))
            if deadline.expired:
                evidence = "\n".join(map(str, after.values()))
                raise NotExercised(f"actor {actor.step.id!r} did not block", evidence=evidence)
        raise NotExercised(f"actor {actor.step.id!r} came to its end, and was expected to block")

    def _await_actor(self, name: str, deadline: Deadline) -> Result:
        actor = self.actors[name]

        def look() -> Result | None:
            result = actor.result()
            if result is None and self.session.machine.check() in ENDED:
                raise NotExercised(f"actor {name!r} was lost: the machine is {self.session.machine.state.value}")
            return result

        result = self.session.machine.watch(look, deadline)
        self._record(self.actors.pop(name), result)
        return Result()

    def _record(self, actor: Actor, result: Result, stacks: tuple[str, ...] = ()) -> None:
        if isinstance(actor.step, Kexec):
            self._after_kexec(jumped=result == Result())
        self._over.append(actor)
        self.folder.append(STEPS_LOG, actor.outcome(result, stacks).to_json())

    def _after_kexec(self, jumped: bool) -> None:
        machine = self.session.machine
        if jumped:
            machine.begin_boot()
        elif machine.state not in ENDED:
            machine.withdraw_boot(Deadline.after(_LOOK_S, "withdrawing the announced boot"))

    def _settle_actors(self) -> None:
        """Says of every actor that nobody waited for what became of it."""
        hung = self._hung_actors()
        for name, actor in list(self.actors.items()):
            stuck = hung.get(actor.pid, [])
            result = actor.result() or Result(HUNG if stuck else UNFINISHED, self._whereabouts_of(actor, stuck))
            self._record(
                self.actors.pop(name), result, tuple(line for task in stuck for line in str(task).splitlines())
            )

    def _hung_actors(self) -> Mapping[int, list[Task]]:
        """The tasks of actors, by their pid, that hang in the kernel of the present boot, although nobody is held.

        As long as another actor is on its way it may be the one that lets them go on: a load takes 0.5 s, on a
        starved host a minute.
        """
        machine = self.session.machine
        deadline = Deadline.after(_END_S if self._ends_machine else _GRACE_S, "actors that nobody waits for")
        with contextlib.suppress(DeadlineExceeded):
            machine.watch(self._all_done, deadline)
        patience = Deadline.after(_OTHERS_S, "actors that others wait for")
        while True:
            away = [actor.pid for actor in self.actors.values() if actor.result() is None]
            if not away or machine.state is not State.RUNNING or self.session.halted:
                return {}
            hung = hung_below(self.session, away)
            if not any(hung.values()) or all(hung.values()) or patience.expired:
                return hung

    @property
    def _ends_machine(self) -> bool:
        return any(isinstance(actor.step, _BOOT_ENDERS) for actor in self.actors.values())

    def _all_done(self) -> bool | None:
        over = self.session.machine.state in ENDED
        return over or all(actor.result() is not None for actor in self.actors.values()) or None

    def _whereabouts_of(self, actor: Actor, stuck: list[Task]) -> str:
        if stuck:
            return ", ".join(f"{task.name}-{task.pid} in {task.place}()" for task in stuck)
        machine = self.session.machine
        if machine.boot.number != actor.boot:
            return "its boot is over"
        return f"the machine is {machine.state.value}" if machine.state in ENDED else "it did not come back"

    def _whereabouts(self) -> str:
        """Who is held, and where the actors are: the evidence for what did not happen."""
        deadline = Deadline.after(_LOOK_S, "the actors' stacks")
        parts = [self.holds.describe()]
        with contextlib.suppress(HarnessError):
            if pids := [actor.pid for actor in self.actors.values()]:
                network = self.session.machine.has_network(deadline)
                tasks = look(self.session, deadline, pids) if network else blocked_by_console(self.session, deadline)
                parts += map(str, leaves(below(tasks, pids)))
        return "\n".join(part for part in parts if part)

    # The end

    def _end(self) -> None:
        """Lets everybody go, finishes the trace of a guest that is alive, and keeps its kernel log."""
        at_its_end = self.session.machine.state in ENDED
        self.holds.release_all("end of run", Deadline.after(_LOOK_S, "letting go all tasks"))
        self._settle_actors()
        deadline = Deadline.after(_FINISH_S, "the end of the trace")
        if not at_its_end:
            self._look_at_an_end(deadline)
        # A reset or panic that nothing asked for ends the run here too, although every step is done.
        running = self.session.machine.check() is State.RUNNING
        if not running or self.session.halted or not self.session.shell.alive:
            return
        self.tracer.finish(self.session, deadline)
        self.folder.write_text("dmesg.txt", self.session.run("dmesg", deadline).stdout)
