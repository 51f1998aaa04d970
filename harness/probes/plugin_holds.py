"""The holder on an engine with the emulated platform: QEMU's plugin keeps the task in a loop at an instruction.

Soft and busy are the same there: interrupts land, and whether other tasks get the CPU is up to the kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.errors import HarnessError, NotExercised
from harness.platform.link import Holding, Point
from harness.probes.addresses import NoFunction
from harness.probes.fetch import Fetch, compile_fetch
from harness.probes.functions import FunctionProbes
from harness.probes.points import ArmedPoint, Held

_CLOSE_S = 5.0


@dataclass
class _Armed:
    """A point that is armed, or at which somebody is held or was."""

    point: ArmedPoint
    number: int = 0
    held: Held | None = None
    lost: bool = False


class PluginHolder:
    """Holds tasks by the platform's plugin; see `Holder` of harness/probes/points.py."""

    name = "plugin"

    def __init__(self, functions: FunctionProbes, ring: Callable[[], None]) -> None:
        """`ring` is called, by the platform's thread, when there is something to be looked at."""
        self._functions = functions
        self._ring = ring
        self._armed: dict[str, _Armed] = {}

    def arm(self, point: ArmedPoint, deadline: Deadline) -> None:
        """Arms a point of mode soft or busy.

        Raises NotExercised for a function that there is not, or whose arguments the compiler changed, and for a
        condition that only the kernel's own tracer could decide.
        """
        armed = _Armed(point)
        wanted = Point(
            name=point.name,
            phase="c" if point.phase == "call" else "r",
            pid=point.pid,
            comm=point.task,
            cpu=point.cpu,
            hit=point.hit,
            conditions=tuple(self._condition(point, text, value) for text, value in point.when),
        )
        try:
            armed.number = self._functions.add_point(
                wanted, point.symbol, point.module, lambda holding: self._noticed(armed, holding), deadline
            )
        except NoFunction as error:
            raise _cannot(point, str(error)) from error
        self._armed[point.name] = armed

    def held(self, name: str) -> Held | None:
        """Who is held at the point. Raises NotExercised when its module came, and cannot be held at."""
        armed = self._armed.get(name)
        if armed is None:
            return None
        if refused := self._functions.point_refused(armed.number):
            raise _cannot(armed.point, refused)
        return armed.held

    def release(self, name: str, deadline: Deadline) -> None:
        """Disarms the point, and lets go whoever is held there."""
        armed = self._armed.get(name)
        if armed is not None:
            self._functions.remove_point(armed.number, deadline)
            if not armed.lost:
                del self._armed[name]

    def lost(self) -> tuple[str, ...]:
        """The points whose task was lost to a reset or power-off."""
        return tuple(name for name, armed in self._armed.items() if armed.lost)

    def check(self) -> None:
        """Raises the HostFault that ended the platform, if one did."""
        self._functions.platform.check()

    def close(self) -> None:
        """Lets everybody go."""
        deadline = Deadline.after(_CLOSE_S, "letting go all tasks")
        with contextlib.suppress(HarnessError):
            for name in list(self._armed):
                self.release(name, deadline)

    def _noticed(self, armed: _Armed, holding: Holding | None) -> None:
        if holding is None:
            armed.held, armed.lost = None, True
        else:
            armed.held = Held(
                point=armed.point.name,
                cpu=holding.cpu,
                task=holding.comm,
                pid=holding.pid,
                preempt_count=holding.preempt_count,
                interrupts=holding.interrupts,
            )
        self._ring()

    def _condition(self, point: ArmedPoint, text: str, value: str | int) -> tuple[str, int | bytes]:
        fetch = compile_fetch(text, self._functions.symbols.variable)
        if fetch is None:
            raise _cannot(point, f"the plugin cannot fetch {text}")
        return fetch.spec, _raw(point, fetch, value)


def _raw(point: ArmedPoint, fetch: Fetch, value: str | int) -> int | bytes:
    """The value as the plugin compares it: unsigned, as wide as it is fetched."""
    if fetch.type == "string":
        return str(value).encode()
    try:
        number = int(str(value), 0)
    except ValueError:
        raise _cannot(point, f"{value!r} is no number, which {fetch.type} is") from None
    return number & ((1 << int(fetch.type[1:])) - 1)


def _cannot(point: ArmedPoint, why: str) -> NotExercised:
    return NotExercised(f"no task can be held at point {point.name} ({point.symbol}): {why}")
