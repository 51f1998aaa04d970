"""Splats in a kernel log: what the kernel says when something is wrong with it.

A table, not a parser: each row is a kind and the first line of its report, as printed by the kernel
file named beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SplatKind:
    """How one kind of splat begins."""

    name: str
    first_line: re.Pattern[str]


_KINDS = tuple(
    SplatKind(name, re.compile(pattern))
    for name, pattern in (
        # lib/bug.c; mm/slub.c has no colon. Nothing harmless begins with BUG, so this takes those not named below.
        ("BUG", r"kernel BUG at |\bBUG: |^BUG \S+ \("),
        ("panic", r"(?<!end )Kernel panic - not syncing"),  # kernel/panic.c
        (
            # arch/x86/kernel/dumpstack.c, __die_header() ends in `: 0000 [#1]`; before 6.9 without `Oops: `. A user
            # task's protection fault has no comma or colon (arch/x86/kernel/traps.c, show_signal()).
            "oops",
            r"BUG: (?:unable to handle|kernel NULL pointer)|BUG: .*stack guard page was hit|Oops: "
            r"|: [0-9a-f]{4} \[#\d+\]|general protection fault[,:]|PANIC: double fault",
        ),
        # kernel/panic.c: before 6.18, since then (DEBUG_BUGVERBOSE_DETAILED adds the condition), without a place
        ("WARNING", r"WARNING: CPU: \d+ PID: \d+|WARNING: (?:\[.*\] ?)?\S+:\d+ at |WARNING: at \S+, CPU#"),
        (
            "lockdep",
            r"WARNING: (?:possible (?:circular|recursive|irq|bad)|bad unlock|suspicious RCU|held lock|inconsistent"
            r"|lock held when returning|nested lock|Nested lock|chain cache key|\S+-safe -> )"
            r"|possible recursive locking detected|INFO: .*lock held when returning|\*\*\* DEADLOCK \*\*\*"
            r"|INFO: trying to register non-static key",
        ),  # kernel/locking/lockdep.c
        (
            "RCU stall",
            r"INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stalls?",
        ),  # kernel/rcu/tree_stall.h, kernel/rcu/tasks.h
        ("hung task", r"INFO: task .* blocked .*for more than \d+ seconds"),  # kernel/hung_task.c
        ("soft lockup", r"watchdog: BUG: soft lockup"),  # kernel/watchdog.c
        ("hard lockup", r"Watchdog detected hard LOCKUP|NMI watchdog: .*hard LOCKUP"),  # kernel/watchdog.c
        ("workqueue lockup", r"BUG: workqueue lockup"),  # kernel/workqueue.c
        (
            "atomic",
            r"BUG: scheduling while atomic|BUG: sleeping function called|BUG: using \S+ in preemptible"
            r"|bad: scheduling from the idle thread",
        ),  # kernel/sched/core.c, lib/smp_processor_id.c
        (
            "KASAN",
            r"BUG: K[A-Z]+: ",
        ),  # mm/kasan/report.c, mm/kfence/report.c, mm/kmsan/report.c, kernel/kcsan/report.c
        ("UBSAN", r"UBSAN: "),  # lib/ubsan.c
        ("list", r"list_(?:add|del) corruption"),  # lib/list_debug.c
        ("refcount", r"refcount_t: "),  # lib/refcount.c
        ("page state", r"BUG: Bad (?:page|rss-counter)"),  # mm/page_alloc.c, mm/memory.c, kernel/fork.c
        ("unchecked MSR", r"unchecked MSR access error"),  # arch/x86/mm/extable.c
        ("sysfs", r"sysfs: cannot create duplicate filename"),  # fs/sysfs/dir.c
    )
)

# What a vCPU that the host starved looks like from inside, too.
_MATTERS_OF_TIME = ("RCU stall", "hung task", "soft lockup", "hard lockup", "workqueue lockup")

# Headers that belong to the report that another header began: what, by whom it is reported, how it ended.
_GOES_ON = {
    "list": ("WARNING", "BUG", "oops"),
    "refcount": ("WARNING",),
    "BUG": ("oops",),
    "oops": ("oops",),
    "lockdep": ("lockdep",),
}
_NEXT_REPORT = re.compile(r"-\[ cut here \]-")

_END_OF_REPORT = re.compile(r"---\[ end (?:trace|Kernel panic)|</TASK>")
_LONGEST_TEXT = 3  # lines between a report's first one and its header
_LONGEST_REPORT = 60  # lines; a WARNING with its registers and a deep stack has some 45
_TIMESTAMP = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?")


@dataclass(frozen=True)
class Splat:
    """One report: its kind, its header without the time stamp, where that is, and all its lines."""

    kind: str
    title: str
    line: int  # index into the log
    excerpt: tuple[str, ...]

    @property
    def sure(self) -> bool:
        """Whether only the kernel can be to blame: a stall or lockup may be the host's, which starved a vCPU."""
        return self.kind not in _MATTERS_OF_TIME


@dataclass(frozen=True)
class Stalled:
    """A CPU or a task that a report complains about, or both; None for what it does not name."""

    cpu: int | None = None
    pid: int | None = None


_COMPLAINTS = (
    re.compile(r"soft lockup - CPU#(?P<cpu>\d+) stuck .*:(?P<pid>\d+)\]"),
    re.compile(r"hard LOCKUP on cpu (?P<cpu>\d+)"),
    re.compile(r"INFO: task .*:(?P<pid>\d+) .*blocked"),
    re.compile(r"workqueue lockup - pool cpus=(?P<cpu>\d+) "),
    # kernel/rcu/tree_stall.h: CPUs with the flags of their state, tasks after a P
    re.compile(r"^(?:rcu: )?\s+(?P<cpu>\d+)-\S+ \("),
    re.compile(r"[{ \t](?P<cpu>\d+)-[.OoNUD!]{4}(?= )"),
    re.compile(r"\bP(?P<pid>\d+)(?=[ /}]|$)"),
)


def stalled(splat: Splat) -> list[Stalled]:
    """Whom a report of a stall or lockup complains about; nobody for a report of another kind."""
    if splat.sure:
        return []
    found = []
    for line in splat.excerpt:
        for pattern in _COMPLAINTS:
            for match in pattern.finditer(line):
                named = {name: int(value) for name, value in match.groupdict().items() if value is not None}
                found.append(Stalled(**named))
    return list(dict.fromkeys(found))


def message(line: str) -> str:
    """A log line without time stamp and caller id."""
    return _TIMESTAMP.sub("", line.rstrip("\r\n"))


def find_splats(log: Sequence[str]) -> list[Splat]:
    """The splats of a log, in order. Lines within one report do not start another."""
    splats: list[Splat] = []
    index = 0
    while index < len(log):
        kind = _kind_of(message(log[index]))
        if kind is None:
            index += 1
            continue
        end = _end_of_report(log, index, kind)
        excerpt = tuple(message(line) for line in log[_begin_of_report(log, index) : end])
        splats.append(Splat(kind, message(log[index]), index, excerpt))
        index = end
    return splats


def _begin_of_report(log: Sequence[str], header: int) -> int:
    """Where a report begins that has its header at `header`: WARN(…, "text") says its text first (kernel/panic.c)."""
    for index in range(header - 1, max(-1, header - 1 - _LONGEST_TEXT), -1):
        if _NEXT_REPORT.search(log[index]):
            return index + 1
    return header


def _kind_of(text: str) -> str | None:
    # The kind that matches last in the table is the most particular (lockdep is a WARNING too).
    matching = [kind.name for kind in _KINDS if kind.first_line.search(text)]
    return matching[-1] if matching else None


def _end_of_report(log: Sequence[str], begin: int, kind: str) -> int:
    limit = min(len(log), begin + _LONGEST_REPORT)
    # CHECK_DATA_CORRUPTION() says what is corrupt, and only then begins the report with BUG() or WARN().
    if kind in _GOES_ON and begin + 1 < limit and _NEXT_REPORT.search(log[begin + 1]):
        begin += 1
    for index in range(begin + 1, limit):
        if _END_OF_REPORT.search(log[index]):
            return index + 1
        if _begins_another(message(log[index]), kind):
            return index
    return begin + 1


def _begins_another(text: str, kind: str) -> bool:
    # The lines of a report's stack and registers are indented.
    other = None if text.startswith(" ") else _kind_of(text)
    return _NEXT_REPORT.search(text) is not None or (other is not None and other not in _GOES_ON.get(kind, ()))
