"""The serial console's log: which lines belong to which boot and to which step.

The harness writes `harness: begin STEP` and `harness: end STEP` to /dev/kmsg around each step, so a
step's messages can be cut out of the console even when the guest did not survive it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.scenario.check import BOOT

# The first line of every boot (init/main.c prints linux_banner).
_BANNER = re.compile(r"\] Linux version \S+")
_MARK = re.compile(r"harness: (begin|end) (\S+)")
_READY = re.compile(r"^harness: ready [\d.]+")


def kmsg_mark(kind: str, what: str) -> str:
    """The text that marks a step in the kernel log: `kmsg_mark("begin", "load")`."""
    return f"harness: {kind} {what}"


@dataclass(frozen=True)
class ConsoleLog:
    """The lines of console.log, without line ends."""

    lines: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> ConsoleLog:
        """Splits the raw bytes of a serial line (CR LF, stray CRs of progress bars) into lines."""
        return cls(tuple(line.strip("\r") for line in text.split("\n")))

    def during(self, first: str, last: str) -> tuple[tuple[str, ...], bool] | None:
        """The lines from the begin of step `first` to the end of step `last`, and whether that end was seen.

        Without an end they go up to the next kernel's banner. None when the first step never began. The step BOOT is
        the first boot, until its init reports.
        """
        begin = self._first(_BANNER) if first == BOOT else self._find("begin", first, 0)
        if begin is None:
            return None
        end = self._first(_READY) if last == BOOT else self._find("end", last, begin + 1)
        if end is not None:
            return self.lines[begin + 1 : end], True
        return self._rest_of_boot(begin), False

    def after(self, step: str) -> tuple[str, ...] | None:
        """The lines from the begin of a step to the end of its boot; None when it never began."""
        begin = self._find("begin", step, 0)
        return None if begin is None else self._rest_of_boot(begin)

    def before(self, line: int) -> tuple[str, ...]:
        """The lines of a boot up to one of its own, by that one's index."""
        banners = (index for index in range(line - 1, -1, -1) if _BANNER.search(self.lines[index]))
        return self.lines[next(banners, 0) : line]

    def _rest_of_boot(self, begin: int) -> tuple[str, ...]:
        banners = (index for index in range(begin + 1, len(self.lines)) if _BANNER.search(self.lines[index]))
        return self.lines[begin + 1 : next(banners, None)]

    def _first(self, pattern: re.Pattern[str]) -> int | None:
        return next((index for index, line in enumerate(self.lines) if pattern.search(line)), None)

    def _find(self, kind: str, what: str, start: int) -> int | None:
        for index in range(start, len(self.lines)):
            match = _MARK.search(self.lines[index])
            if match and match[1] == kind and match[2] == what:
                return index
        return None
