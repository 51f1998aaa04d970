"""One place to wait for whatever comes first: a console line, a QMP event, the end of QEMU.

Sources ring; waiters look again. A source changes its state before it rings, so nothing is missed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from harness.deadline import Deadline

T = TypeVar("T")

_LOOK_AGAIN_S = 0.5  # for predicates on the passing of time, such as silence, which nobody rings for


class Bell:
    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rings = 0

    def ring(self) -> None:
        """Wakes every waiter."""
        with self._condition:
            self._rings += 1
            self._condition.notify_all()

    def wait_for(self, look: Callable[[], T | None], deadline: Deadline) -> T:
        """The first answer of `look` that is not None. Raises DeadlineExceeded, and whatever `look` raises."""
        while True:
            with self._condition:
                seen = self._rings
            answer = look()
            if answer is not None:
                return answer
            deadline.check()
            with self._condition:
                if self._rings == seen:
                    self._condition.wait(min(_LOOK_AGAIN_S, deadline.remaining()))
