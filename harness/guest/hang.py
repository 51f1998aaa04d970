"""A step that does not end: is it the kernel, or the harness?"""

from __future__ import annotations

from harness.deadline import Deadline
from harness.errors import DeadlineExceeded, HarnessError, KernelFault
from harness.guest.session import Session

_LOOK_S = 30.0

# A task that waits for a CPU's hotplug thread sleeps uninterruptibly too, for moments, on a slow host for long ones.
# So does kernel/hung_task.c, with 120 s: only a task that was never woken in between hangs.
_STILL_S = 10

# User tasks in uninterruptible sleep that ran at no time between two looks; each with the stack that says where.
_SCRIPT = rf"""
asleep() {{
	for dir in /proc/[0-9]*; do
		[ -e $dir/exe ] || continue
		state= switches=
		while read -r key value _; do
			case $key in
			State:) state=$value ;;
			*_ctxt_switches:) switches=$switches.$value ;;
			esac
		done < $dir/status
		[ "$state" = D ] && echo "$dir:$switches"
	done
}}
before=$(asleep)
[ "$before" ] || exit 0
sleep {_STILL_S}
for task in $(asleep); do
	case " $(echo $before) " in
	*" $task "*)
		dir=${{task%%:*}}
		read -r name < $dir/comm
		echo "task $name (${{dir#/proc/}}) in state D:"
		cat $dir/stack
		;;
	esac
done
"""


class StepHung(KernelFault):
    """A task of the scenario sleeps in the kernel and does not come back."""


def why_hung(step_id: str, session: Session, timeout: DeadlineExceeded) -> HarnessError:
    """The exception for a step that ran out of time.

    StepHung, with stacks, when a user task stays in uninterruptible sleep. Otherwise nothing proves the kernel
    wrong, and it stays `timeout`, the harness's own.
    """
    try:
        stacks = session.run(_SCRIPT, Deadline.after(_LOOK_S, "stacks of the hung tasks")).stdout
    except HarnessError as error:
        return error if isinstance(error, KernelFault) else timeout
    if "in state D:" not in stacks:
        return timeout
    return StepHung(f"step {step_id!r} did not come back: a task of the guest hangs in the kernel", evidence=stacks)
