"""Whether every CPU of the lab goes on.

An error of emulation can leave a CPU deaf: halted, with IF set and interrupts pending in its local APIC, its global
interrupt flag clear. Seen of CPU 0 with QEMU 11.1.3, while guests still ran on it (guest-images/lab/start-lab).
Whatever waits for an interrupt there waits for good, and nobody in the lab says so. So on each CPU a task writes the
CPU's number every few seconds, by which it shows that its timer still wakes it.
"""

from __future__ import annotations

import time
from pathlib import Path

from harness.deadline import patience
from harness.errors import HostFault

_SILENT_S = 60.0  # on two cores with a load of 7, a task that wakes every 5 s was never 10 s late


class Pulse:
    """The signs of life of `cpus` CPUs, one number on a line, in the growing file `log`."""

    def __init__(self, log: Path, cpus: int) -> None:
        self._log = log
        self._read = 0
        self._heard = dict.fromkeys(range(cpus), time.monotonic())

    def check(self) -> None:
        """Raises HostFault for a CPU that nothing was heard of for a minute."""
        now = time.monotonic()
        for cpu in self._news():
            self._heard[cpu] = now
        for cpu, heard in self._heard.items():
            if now - heard > _SILENT_S * patience():
                raise HostFault(
                    f"CPU {cpu} of the lab stands still",
                    expected="a sign of life every 5 s",
                    found=f"none for {now - heard:.0f} s",
                    hint="the emulation has lost it: start again",
                )

    def _news(self) -> set[int]:
        with self._log.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return {int(line) for line in whole.split() if line.isdigit()} & self._heard.keys()
