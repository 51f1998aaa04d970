"""Points: where a task is to be held, and what it means that it is.

Two holders can do it: QEMU's plugin on an engine with the emulated platform, and QEMU's gdbstub on any.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from harness.deadline import Deadline
from harness.scenario.kinds import HoldMode, PointPhase


@dataclass(frozen=True)
class ArmedPoint:
    """A point as a holder takes it: names of this kernel, and the actor's task.

    The filters are all of those given; `hit` counts the executions that pass them. `when` are kprobe fetch
    expressions (Documentation/trace/kprobetrace.rst) with the value that each must have.
    """

    name: str
    symbol: str
    module: str = ""  # whose function it is; "" for the kernel proper
    phase: PointPhase = "call"
    mode: HoldMode = "soft"
    pid: int = 0  # the task or any descendant of it; 0 for any
    task: str = ""  # comm
    cpu: int | None = None
    hit: int = 1
    when: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True)
class Held:
    """A task that is held, and whether others can run on its CPU meanwhile."""

    point: str
    cpu: int  # where it was when it came to the point
    task: str
    pid: int
    preempt_count: int  # without the bit that says "no reschedule needed"
    interrupts: bool  # EFLAGS.IF
    at: float = field(default_factory=time.monotonic, compare=False)  # the host's monotonic time

    @property
    def preemptible(self) -> bool:
        """Whether the place allows preemption; that the kernel does it at all is another matter."""
        return self.preempt_count == 0 and self.interrupts


class Holder(Protocol):
    """What can hold tasks. Its methods may be called by one thread; notices ring the machine's bell."""

    name: str  # plugin, gdbstub

    def arm(self, point: ArmedPoint, deadline: Deadline) -> None:
        """Arms a point; in a module that is not loaded yet, when it is. Raises NotExercised where it cannot be."""

    def held(self, name: str) -> Held | None:
        """Who is held at the point, if somebody is."""

    def release(self, name: str, deadline: Deadline) -> None:
        """Disarms the point, and lets go whoever is held there, in one step. Nothing to do is no error."""

    def lost(self) -> tuple[str, ...]:
        """The points whose task was lost to a reset or power-off while it was held."""

    def check(self) -> None:
        """Raises the HostFault that ended the holder, if one did."""

    def close(self) -> None:
        """Lets everybody go and ends. Safe more than once."""
