"""One deadline, made at the top, passed down to every wait."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass

from harness.errors import DeadlineExceeded, UsageError

PATIENCE = "HARNESS_PATIENCE"

MOST_PATIENCE = 100.0


def patience() -> float:
    """How many times longer every wait may take than it is meant to: $HARNESS_PATIENCE, from 1 on.

    For a host that is slow as a whole: in the lab, each exit of a guest is emulated. Raises UsageError.
    """
    return _patience(os.environ.get(PATIENCE, "1"))


@functools.cache
def _patience(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 1 <= factor <= MOST_PATIENCE:
        raise UsageError(f"${PATIENCE} says how many times longer to wait", expected="1 to 100", found=text)
    return factor


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock, and what it bounds (for the message)."""

    at: float
    what: str

    @classmethod
    def after(cls, seconds: float, what: str) -> Deadline:
        """The deadline `seconds` from now, with patience."""
        return cls(time.monotonic() + seconds * patience(), what)

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self.at

    def sooner(self, seconds: float, what: str) -> Deadline:
        """A deadline for a part of the work: `seconds` from now, but not later than this one."""
        part = Deadline.after(seconds, what)
        return part if part.at < self.at else Deadline(self.at, f"{what} (within {self.what})")

    def pause(self, seconds: float) -> None:
        """Sleeps between two looks at something that cannot be waited for, never beyond the deadline."""
        time.sleep(min(seconds, self.remaining()))

    def check(self, evidence: str = "") -> None:
        """Raises DeadlineExceeded once the moment has passed."""
        if self.expired:
            raise self.exceeded(evidence)

    def exceeded(self, evidence: str = "") -> DeadlineExceeded:
        """The exception to raise when a wait bounded by this deadline ran out."""
        return DeadlineExceeded(f"timed out: {self.what}", evidence=evidence)
