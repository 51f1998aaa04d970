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
        ("panic", r"Kernel panic - not syncing"),  # kernel/panic.c
        (
            "oops",
            r"BUG: (?:unable to handle|kernel NULL pointer)|Oops: |general protection fault",
        ),  # arch/x86/mm/fault.c
        ("BUG", r"kernel BUG at "),  # lib/bug.c
        ("WARNING", r"WARNING: CPU: \d+ PID: \d+|WARNING: \S+:\d+ at "),  # kernel/panic.c, before and since 6.18
        (
            "lockdep",
            r"WARNING: (?:possible (?:circular|recursive|irq)|bad unlock|suspicious RCU|held lock|inconsistent lock)"
            r"|possible recursive locking detected|INFO: .*lock held when returning",
        ),  # kernel/locking/lockdep.c
        ("RCU stall", r"rcu: INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stalls?"),  # kernel/rcu/tree_stall.h
        ("hung task", r"INFO: task .* blocked for more than \d+ seconds"),  # kernel/hung_task.c
        ("soft lockup", r"watchdog: BUG: soft lockup"),  # kernel/watchdog.c
        ("hard lockup", r"Watchdog detected hard LOCKUP|NMI watchdog: .*hard LOCKUP"),  # kernel/watchdog.c
        ("atomic", r"BUG: scheduling while atomic|BUG: sleeping function called"),  # kernel/sched/core.c
        ("KASAN", r"BUG: K[AC]SAN: "),  # mm/kasan/report.c, kernel/kcsan/report.c
        ("list", r"list_(?:add|del) corruption"),  # lib/list_debug.c
        ("refcount", r"refcount_t: "),  # lib/refcount.c
        ("page state", r"BUG: Bad page state|BUG: Bad rss-counter"),  # mm/page_alloc.c, kernel/fork.c
        ("unchecked MSR", r"unchecked MSR access error"),  # arch/x86/mm/extable.c
    )
)

_END_OF_REPORT = re.compile(r"---\[ end (?:trace|Kernel panic)|</TASK>")
_LONGEST_REPORT = 60  # lines; a WARNING with its registers and a deep stack has some 45
_TIMESTAMP = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?")


@dataclass(frozen=True)
class Splat:
    """One report: its kind, its first line without the time stamp, where it begins, and all its lines."""

    kind: str
    title: str
    line: int  # index into the log
    excerpt: tuple[str, ...]


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
        end = _end_of_report(log, index)
        excerpt = tuple(message(line) for line in log[index:end])
        splats.append(Splat(kind, excerpt[0], index, excerpt))
        index = end
    return splats


def _kind_of(text: str) -> str | None:
    # The kind that matches last in the table is the most particular (lockdep is a WARNING too).
    matching = [kind.name for kind in _KINDS if kind.first_line.search(text)]
    return matching[-1] if matching else None


def _end_of_report(log: Sequence[str], begin: int) -> int:
    limit = min(len(log), begin + _LONGEST_REPORT)
    for index in range(begin + 1, limit):
        if _END_OF_REPORT.search(log[index]):
            return index + 1
        if _kind_of(message(log[index])) == "panic":
            return index
    return begin + 1
