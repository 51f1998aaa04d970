"""A step that does not end: is it the kernel, or the harness?"""

from __future__ import annotations

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HarnessError, KernelFault
from harness.guest.session import Session

_LOOK_S = 20.0

# Tasks in uninterruptible sleep or running in the kernel are the kernel's; each with the stack that says where.
_SCRIPT = r"""
for dir in /proc/[0-9]*; do
	[ -e $dir/exe ] || continue
	while read -r key value _; do
		[ "$key" = State: ] && break
	done < $dir/status
	if [ "$value" = D ]; then
		read -r name < $dir/comm
		echo "task $name (${dir#/proc/}) in state D:"
		cat $dir/stack
	fi
done
"""


class StepHung(KernelFault):
    """A task of the scenario sleeps in the kernel and does not come back."""


def why_hung(step_id: str, session: Session, timeout: DeadlineExceeded) -> HarnessError:
    """The exception for a step that ran out of time.

    StepHung, with stacks, when a user task is in uninterruptible sleep. Otherwise nothing proves the kernel
    wrong, and it stays `timeout`, the harness's own.
    """
    try:
        stacks = session.run(_SCRIPT, Deadline.after(_LOOK_S, "stacks of the hung tasks")).stdout
    except HarnessError as error:
        return error if isinstance(error, KernelFault) else timeout
    if "in state D:" not in stacks:
        return timeout
    return StepHung(f"step {step_id!r} did not come back: a task of the guest hangs in the kernel", evidence=stacks)
