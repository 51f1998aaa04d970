"""The preemption model that a kernel runs with, which `preempt=` chooses and not every kernel obeys."""

from __future__ import annotations

import re

# kernel/sched/debug.c lists the models of a kernel with CONFIG_PREEMPT_DYNAMIC, the present one in parentheses.
SCRIPT = "cat /sys/kernel/debug/sched/preempt 2>/dev/null; cat /proc/version"

_CHOSEN = re.compile(r"^(?!Linux).*\((\w+)\)", re.MULTILINE)

# init/Makefile, UTS_VERSION's flags.
_BUILT = (("PREEMPT_RT", "rt"), ("PREEMPT_LAZY", "lazy"), ("PREEMPT_DYNAMIC", "unknown"), ("PREEMPT", "full"))


def parse_preemption(text: str) -> str:
    """What SCRIPT printed, as one word: none, voluntary, lazy, full, rt, or unknown."""
    if match := _CHOSEN.search(text):
        return match[1]
    return next((model for flag, model in _BUILT if re.search(rf"\b{flag}\b", text)), "none")
