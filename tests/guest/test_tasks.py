"""What the guest says of its tasks, by /proc and by sysrq-w."""

from __future__ import annotations

from harness.guest.tasks import asleep, below, leaves, parse_dump, parse_tasks

FIRST = """\
task 171 160 S .4.1 sh
[<0>] do_wait+0xa5/0x110
[<0>] kernel_wait4+0xaf/0x140
task 172 171 D .8.2 guestctl
[<0>] percpu_rwsem_wait+0x11a/0x140
[<0>] __percpu_down_read+0x70/0x90
task 173 171 R .0.0 cat
"""
WOKEN = FIRST.replace(".8.2", ".9.2")
MOVED = FIRST.replace("percpu_rwsem_wait", "msleep")


def test_a_task_has_its_name_its_state_and_its_stack() -> None:
    tasks = parse_tasks(FIRST)
    assert [(task.pid, task.parent, task.state, task.name) for task in tasks.values()] == [
        (171, 160, "S", "sh"),
        (172, 171, "D", "guestctl"),
        (173, 171, "R", "cat"),
    ]
    assert tasks[172].place == "percpu_rwsem_wait" and tasks[173].place == ""
    assert str(tasks[172]).splitlines()[0] == "task guestctl (172) in state D:"


def test_only_what_was_not_woken_between_two_looks_sleeps() -> None:
    first = parse_tasks(FIRST)
    assert [task.pid for task in asleep(first, first)] == [172]
    assert [task.pid for task in asleep(first, first, "DS")] == [171, 172]
    assert asleep(first, parse_tasks(WOKEN)) == []
    assert asleep(first, parse_tasks(MOVED)) == []
    assert asleep({}, first) == []


def test_a_shell_that_waits_for_its_child_is_no_leaf() -> None:
    assert [task.pid for task in leaves(parse_tasks(FIRST))] == [172, 173]


def test_a_name_with_blanks_and_a_task_that_ended_meanwhile() -> None:
    tasks = parse_tasks("task 9 2 S .1.1 a b\ntask 10 \n")
    assert tasks[9].name == "a b" and list(tasks) == [9]


DUMP = """\
[   30.100000] sysrq: Show Blocked State
[   30.101000] task:guestctl        state:D stack:0     pid:172   tgid:172   ppid:171    flags:0x00004002
[   30.102000] Call Trace:
[   30.103000]  <TASK>
[   30.104000]  __schedule+0x505/0xbf0
[   30.105000]  ? asm_sysvec_apic_timer_interrupt+0x1a/0x20
[   30.106000]  schedule+0x27/0xf0
[   30.107000]  </TASK>
[   30.108000] task:sh              state:D stack:0     pid:180   ppid:1      flags:0x00000002
[   30.109000]  __schedule+0x505/0xbf0
""".splitlines()


def test_a_dump_of_blocked_tasks_is_read_from_the_console() -> None:
    tasks = parse_dump(DUMP)
    assert (tasks[172].name, tasks[172].parent, tasks[172].state) == ("guestctl", 171, "D")
    assert [line.partition("+")[0] for line in tasks[172].stack] == ["__schedule", "schedule"]
    assert tasks[180].stack == ("__schedule+0x505/0xbf0",)  # 6.1 has no tgid
    assert list(below(tasks, [171])) == [172]
    assert [task.pid for task in asleep(tasks, tasks)] == [172, 180]


def test_descendants_are_followed_as_far_as_their_parents_are_known() -> None:
    assert list(below(parse_tasks(FIRST + "task 174 173 S .1.1 x\n"), [171])) == [171, 172, 173, 174]
