"""Tasks of the guest and where in the kernel they are: /proc/PID/stack, or sysrq-w where nobody can be asked."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.guest.session import Session

# User tasks, two looks apart by argument 1 in microseconds. With further arguments only those processes and what they
# started, of which the kernel does not tell all where CONFIG_PROC_CHILDREN is off. No exec under TCG but for `cat`.
_SCRIPT = r"""
pause=$1; shift
all=; [ $# -eq 0 ] && all=y
look() {
	known=" $* " more=y
	while [ "$more" ]; do
		more=
		for dir in /proc/[0-9]*; do
			[ -e $dir/exe ] || continue
			pid=${dir#/proc/}
			case "$known" in *" $pid "*) continue ;; esac
			read -r stat < $dir/stat || continue
			stat=${stat##*) } stat=${stat#? }
			case "$all$known" in y*|*" ${stat%% *} "*) known="$known$pid " more=y ;; esac
		done
	done
	for pid in $known; do
		dir=/proc/$pid state= switches= parent=
		while read -r key value _; do
			case $key in
			State:) state=$value ;;
			PPid:) parent=$value ;;
			*_ctxt_switches:) switches=$switches.$value ;;
			esac
		done 2>/dev/null < $dir/status
		[ "$state" ] || continue
		read -r name < $dir/comm
		echo "task $pid $parent $state $switches $name"
		[ $state = R ] || cat $dir/stack
	done
}
look "$@"
[ $pause = 0 ] || { echo again; usleep $pause; look "$@"; }
"""
_TASK = re.compile(r"task (?P<pid>\d+) (?P<parent>\d*) (?P<state>\w) (?P<switches>[\d.]+) (?P<name>.*)")

# kernel/sched/core.c, sched_show_task(): 6.1 has no tgid.
_DUMPED = re.compile(r"task:(?P<name>.*?)\s+state:(?P<state>\w)\s.*?\bpid:(?P<pid>\d+)\s.*?ppid:(?P<parent>\d+)")
_DUMP_BEGINS = re.compile(r"sysrq: Show Blocked State")
_STACK_LINE = re.compile(r"\]\s+(?: |\? )*(?P<place>[\w.]+\+0x[0-9a-f]+/0x[0-9a-f]+.*)")
_DUMP_S = 3.0


@dataclass(frozen=True)
class Task:
    """A task at one look: `state` as in /proc/PID/status, `switches` its context switches so far."""

    pid: int
    parent: int
    name: str
    state: str
    switches: str = ""
    stack: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The innermost function; "" for a task that runs."""
        return self.stack[0].removeprefix("[<0>] ").partition("+")[0] if self.stack else ""

    def stayed(self, before: Task | None) -> bool:
        """Whether it slept all the time since `before`, at the same place."""
        return (
            before is not None
            and self.state in "DS"
            and (before.state, before.switches, before.stack) == (self.state, self.switches, self.stack)
        )

    def __str__(self) -> str:
        return "\n".join((f"task {self.name} ({self.pid}) in state {self.state}:", *self.stack))


Tasks = Mapping[int, Task]


def look(session: Session, deadline: Deadline, of: Iterable[int] = ()) -> Tasks:
    """The guest's user tasks, or those of some processes and their descendants. Raises like `Session.run`."""
    return _looks(session, 0, of, deadline)[0]


def look_twice(session: Session, seconds: float, deadline: Deadline, of: Iterable[int] = ()) -> tuple[Tasks, Tasks]:
    """The same at two moments, `seconds` apart on the guest's clock."""
    first, second = _looks(session, seconds, of, deadline)
    return first, second


def _looks(session: Session, pause: float, of: Iterable[int], deadline: Deadline) -> list[Tasks]:
    arguments = " ".join([str(int(pause * 1e6)), *map(str, of)])
    text = session.run(f"set -- {arguments}\n{_SCRIPT}", deadline).stdout
    return [parse_tasks(part) for part in text.split("again\n")]


def parse_tasks(text: str) -> Tasks:
    """The tasks of one look, by their pid."""
    tasks: dict[int, Task] = {}
    for block in re.split(r"^(?=task )", text, flags=re.MULTILINE):
        first, *stack = block.splitlines() or [""]
        if match := _TASK.fullmatch(first):
            tasks[int(match["pid"])] = Task(
                int(match["pid"]), int(match["parent"] or 0), match["name"], match["state"], match["switches"],
                tuple(line.strip() for line in stack),
            )  # fmt: skip
    return tasks


def leaves(tasks: Tasks) -> list[Task]:
    """Those that wait for no child of theirs."""
    parents = {task.parent for task in tasks.values()}
    return [task for task in tasks.values() if task.pid not in parents]


def asleep(before: Tasks, after: Tasks, states: Collection[str] = ("D",)) -> list[Task]:
    """The tasks that slept, in one of `states`, from the one look to the other."""
    return [task for task in after.values() if task.state in states and task.stayed(before.get(task.pid))]


def blocked_by_console(session: Session, deadline: Deadline) -> Tasks:
    """The uninterruptible tasks as the kernel prints them at once, without user space and network.

    Empty when it prints nothing: interrupts are off on the CPU that the serial line's go to, or sysrq is.
    """
    machine = session.machine
    since = machine.console.position
    part = deadline.sooner(_DUMP_S, "sysrq-w")
    try:
        machine.dump_blocked_tasks(part)
        machine.watch(lambda: machine.console.find(_DUMP_BEGINS, since), part)
        machine.console.settle(part)
    except HarnessError:
        return {}
    return parse_dump([line.text for line in machine.console.lines(since)])


def parse_dump(lines: Sequence[str]) -> Tasks:
    """The tasks of a sysrq dump on the console."""
    tasks: dict[int, Task] = {}
    current: tuple[Task, list[str]] | None = None

    def close() -> None:
        if current is not None:
            task, stack = current
            tasks[task.pid] = Task(task.pid, task.parent, task.name, task.state, stack=tuple(stack))

    for line in lines:
        if match := _DUMPED.search(line):
            close()
            current = Task(int(match["pid"]), int(match["parent"]), match["name"], match["state"]), []
        elif current is not None and (found := _STACK_LINE.search(line)) and "?" not in line.partition("+0x")[0]:
            current[1].append(found["place"])
    close()
    return tasks


def below(tasks: Tasks, roots: Iterable[int]) -> Tasks:
    """Those of `tasks` that are one of the processes `roots` or, as far as the links are here, descend from one."""
    wanted = set(roots)
    for _ in tasks:
        wanted |= {task.pid for task in tasks.values() if task.parent in wanted}
    return {pid: task for pid, task in tasks.items() if pid in wanted}
