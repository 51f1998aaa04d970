"""A step that does not end: is it the kernel, the scenario's own hold, or the harness?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from harness.deadline import Deadline, patience
from harness.errors import HarnessError, HostFault, KernelFault
from harness.guest.session import Session
from harness.guest.tasks import Task, Tasks, asleep, below, blocked_by_console, leaves, look, look_twice
from harness.machine.ending import GuestInDoubt
from harness.machine.state import ENDED

_LOOK_S = 30.0  # for a look at the guest's tasks: 0.1 s on an idle host, 5 s at a load of 20 on two cores

# A task that waits for a CPU's hotplug thread sleeps uninterruptibly too, for moments, on a slow host for long ones.
# So does kernel/hung_task.c, with 120 s: only a task that was never woken in between hangs.
STILL_S = 10.0

_BACK_S = 10.0  # for what was released to go on
_PAUSE_S = 0.2


class StepHung(KernelFault):
    """A task of the scenario sleeps in the kernel and does not come back."""


class HarnessDeadlock(HostFault):
    """The scenario waited for what its own hold kept from happening: it went on when everything was released."""


def why_hung(step_id: str, session: Session, timeout: HarnessError) -> HarnessError:
    """The exception for a step that ran out of time while nobody was held.

    StepHung, with stacks, when a user task stays in uninterruptible sleep. Otherwise nothing proves the kernel
    wrong, and it stays `timeout`, the harness's own.
    """
    try:
        stuck = hung_tasks(session)
    except HarnessError as error:
        return error if isinstance(error, KernelFault | GuestInDoubt) else timeout
    return _hung(step_id, stuck) if stuck else timeout


def _hung(step_id: str, stuck: Iterable[Task]) -> StepHung:
    stacks = "\n".join(str(task) for task in stuck)
    return StepHung(f"step {step_id!r} did not come back: a task of the guest hangs in the kernel", evidence=stacks)


def hung_tasks(session: Session) -> list[Task]:
    """The user tasks that sleep uninterruptibly and are not woken for STILL_S.

    Raises like `Session.run` for a guest that cannot be asked.
    """
    return asleep(*_still(session, ()))


def hung_below(session: Session, roots: Collection[int]) -> Mapping[int, list[Task]]:
    """The same of some processes and their descendants, by process: of a guest without a network by sysrq-w, which
    does not tell of a hung task what is between it and a process that it descends from."""
    try:
        before, after = _still(session, roots)
    except HarnessError:
        before, after = _still_by_console(session)
    stuck = asleep(before, after)
    return {root: [task for task in stuck if task.pid in below(after, [root])] for root in roots}


def _still(session: Session, of: Collection[int]) -> tuple[Tasks, Tasks]:
    """Two looks, STILL_S apart; at nobody when nobody sleeps uninterruptibly."""
    deadline = Deadline.after(2 * _LOOK_S + STILL_S, "stacks of the hung tasks")
    if not any(task.state == "D" for task in look(session, deadline, of).values()):
        return {}, {}
    return look_twice(session, STILL_S * patience(), deadline, of)


def _still_by_console(session: Session) -> tuple[Tasks, Tasks]:
    deadline = Deadline.after(_LOOK_S, "the kernel's list of blocked tasks")
    before = blocked_by_console(session, deadline)
    if not before:
        return {}, {}
    deadline.pause(STILL_S * patience())
    return before, blocked_by_console(session, deadline)


def held_or_hung(
    step_id: str, session: Session, timeout: HarnessError, held: str, release: Callable[[], object]
) -> HarnessError:
    """The exception for a step that ran out of time while tasks were held; the experiment that decides.

    Everything is released. What goes on then was blocked by the scenario itself: HarnessDeadlock. What stays in
    uninterruptible sleep although nobody is held is the kernel's deadlock: StepHung. `held` says who was held.
    """
    before = _looked(session)
    release()
    deadline = Deadline.after(_BACK_S, "what was held to go on")
    after = _looked(session)
    while not (gone_on := _gone_on(before, after, session)) and not deadline.expired:
        deadline.pause(_PAUSE_S)
        after = _looked(session)
    if stuck := _stuck(session, after):
        return _hung(step_id, stuck)
    if not gone_on:
        return timeout
    return HarnessDeadlock(
        f"the scenario's own hold blocks step {step_id!r}: {gone_on} when everything was released",
        hint="put the release before this step, or make what blocks an actor, started with `blocks: true`",
        evidence="\n".join([held, *map(str, _woken(before, after))]),
    )


def _looked(session: Session) -> Tasks | None:
    """The user tasks, or all that are blocked of a guest without a network; None of one that cannot be asked."""
    try:
        deadline = Deadline.after(_LOOK_S, "the guest's tasks")
        if not session.machine.has_network(deadline):
            return blocked_by_console(session, deadline)
        if not session.shell.alive:  # what was cut short may have taken the connection with it
            session.shell.connect(deadline)
        return look(session, deadline)
    except HarnessError:
        return None


def _gone_on(before: Tasks | None, after: Tasks | None, session: Session) -> str:
    """What the release set going; "" for nothing."""
    if session.machine.state in ENDED:
        return f"the machine is {session.machine.state.value}"
    if before is None and after is not None:
        return "the guest answered again"
    return ", ".join(f"{task.name} ({task.pid}) went on" for task in _woken(before, after))


def _woken(before: Tasks | None, after: Tasks | None) -> list[Task]:
    """The tasks that slept uninterruptibly and were woken since, and those that slept at all and are no more."""
    if before is None or after is None:
        return []
    return [
        task
        for task in leaves(before)
        if (task.state in "DS" and task.pid not in after)
        or (task.state == "D" and task.pid in after and after[task.pid].switches != task.switches)
    ]


def _stuck(session: Session, after: Tasks | None) -> list[Task]:
    if after is None or session.machine.state in ENDED:
        return []
    try:
        return hung_tasks(session) if session.machine.has_network(Deadline.after(_LOOK_S, "the network")) else []
    except HarnessError:
        return []
