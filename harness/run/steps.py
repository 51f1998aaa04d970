"""The steps of a run, on a live machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness import progress
from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HarnessError
from harness.folder import RunFolder
from harness.guest.actions import Result, command, perform, result_of
from harness.guest.hang import why_hung
from harness.guest.outcome import UNFINISHED, Outcome
from harness.guest.session import Session, pinned
from harness.machine.state import ENDED, State
from harness.observe.sampler import take_sample
from harness.probes.tracer import Tracer
from harness.scenario.model import Scenario
from harness.scenario.steps import (
    Boot,
    Halt,
    Kexec,
    Panic,
    Poweroff,
    Reboot,
    Sample,
    Start,
    Step,
    Suspend,
    Until,
)

_BOOT_S = 120.0  # 4-8 s under TCG on an idle host
_FINISH_S = 20.0

# Steps after which this boot's guest says nothing more: the trace is followed to the end before them.
_BOOT_ENDERS = (Reboot, Poweroff, Halt, Kexec, Panic)

# What an actor of these kinds does to the machine is no surprise.
_EXPECTED_ENDS: dict[type[Step], State] = {Reboot: State.RESET, Poweroff: State.OFF}

# Samples that are taken by themselves, with the guest paused.
_SAMPLED_ENDS = {State.RESET: "reset", State.OFF: "power-off"}


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

    def run(self, steps: list[Step]) -> None:
        """Boots, does `steps` one after the other, and finishes the trace."""
        self.session.when_asleep = self._sample
        with progress.task("boot"):
            deadline = Deadline.after(_BOOT_S, "the guest's boot")
            self.session.machine.start(deadline)
            self._enter_boot(deadline)
        try:
            for step in steps:
                with progress.task(step.title):
                    self._do(step)
            self._end()
        except HarnessError:
            self._salvage()
            raise

    def _salvage(self) -> None:
        """Takes the trace of a guest that may answer no more, up to where it is."""
        deadline = Deadline.after(_FINISH_S, "the rest of the trace")
        with contextlib.suppress(HarnessError):
            if self.session.machine.state not in ENDED:
                self.session.machine.pause(deadline)
            self.tracer.take_leftover(self.session, deadline)

    def _enter_boot(self, deadline: Deadline) -> None:
        self.session.machine.wait_ready(deadline)
        self.session.shell.connect(deadline)
        self.booted(self.session, self.tracer.arm(self.session, deadline))

    def _do(self, step: Step) -> None:
        begin = time.monotonic()
        machine = self.session.machine
        boot, online, position = machine.boot.number, self.session.online, machine.console.position
        deadline = Deadline.after(step.seconds, f"step {step.id!r}")
        result = Result(UNFINISHED)
        try:
            result = self._perform(step, deadline)
        except DeadlineExceeded as timeout:
            raise why_hung(step.id, self.session, timeout) from timeout
        finally:
            console = tuple(line.text for line in machine.console.lines(position)[-40:])
            outcome = Outcome(
                step.id, step.kind, boot, result.value, time.monotonic() - begin, online, result.detail, console
            )
            self.folder.append("steps.jsonl", outcome.to_json())
        if machine.state in _SAMPLED_ENDS:
            self._sample(_SAMPLED_ENDS[machine.state], deadline)
        self.tracer.take_leftover(self.session, deadline)

    def _perform(self, step: Step, deadline: Deadline) -> Result:
        if isinstance(step, Suspend):
            self.tracer.use_serial_line(self.session, deadline)
        if _stands_after(step):
            self.tracer.leave_the_rest(self.session, deadline)
        elif isinstance(step, _BOOT_ENDERS):
            self.tracer.follow_to_the_end(self.session, deadline)
        if isinstance(step, Sample):
            self._sample(step.name, deadline)
            return Result()
        if isinstance(step, Boot):
            if self.session.machine.state is not State.BOOTING:  # after a kexec it boots already
                self.session.machine.continue_boot(deadline)
            self._enter_boot(deadline)
            return Result()
        if isinstance(step, Start):
            actor = self.scenario.actors[step.actor]
            if isinstance(actor, _BOOT_ENDERS):
                self.tracer.leave_the_rest(self.session, deadline, streaming=True)
                self.session.machine.expect(_EXPECTED_ENDS[type(actor)])
            self.session.start_marked(actor.id, pinned(actor, command(actor, self.session)), deadline)
            return Result()
        if isinstance(step, Until) and step.what.endswith(".exit"):
            return self._await_actor(step.what.removesuffix(".exit"), deadline)
        return perform(step, self.session, deadline)

    def _await_actor(self, name: str, deadline: Deadline) -> Result:
        actor = self.scenario.actors[name]
        begin, boot, online = time.monotonic(), self.session.machine.boot.number, self.session.online
        done = self.session.note_online(self.session.background.pop(name).wait(deadline))
        result = result_of(actor, done)
        outcome = Outcome(name, actor.kind, boot, result.value, time.monotonic() - begin, online, result.detail)
        self.folder.append("steps.jsonl", outcome.to_json())
        return Result()

    def _sample(self, name: str, deadline: Deadline) -> None:
        """Takes a sample and keeps it."""
        self.folder.append("samples.jsonl", take_sample(name, self.session, deadline).to_json())

    def _end(self) -> None:
        """Finishes the trace of a guest that is alive, and keeps its kernel log."""
        deadline = Deadline.after(_FINISH_S, "the end of the trace")
        # A reset or panic that nothing asked for ends the run here too, although every step is done.
        running = self.session.machine.check() is State.RUNNING
        if not running or self.session.halted or not self.session.shell.alive:
            return
        self.tracer.finish(self.session, deadline)
        self.folder.write_text("dmesg.txt", self.session.run("dmesg", deadline).stdout)
