"""Who is to blame, as types.

    HarnessError
    ├── UsageError            the scenario, the command line or an input file is wrong; nothing was booted (exit 2)
    │   ├── ScenarioError     … at a line of a YAML file
    │   └── DoesNotBuild      a kernel that was asked for does not come out of its source, or a patch does not apply
    ├── KernelFault           the kernel under test panicked, hung or reset by itself                      (exit 1)
    ├── HostFault             QEMU, the host, the network or the harness failed; the kernel is not to blame (exit 3)
    │   └── DeadlineExceeded  a wait of the harness ran out
    └── NotExercised          what the scenario talks about did not happen                                 (exit 4)

A verdict and an exit code follow from the type, never from the text.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import ClassVar


class Exit(enum.IntEnum):
    """Exit codes of every command; the worst of a batch is the batch's (see `worst_exit`)."""

    CONFIRMED = 0
    VIOLATED = 1
    USAGE = 2
    HARNESS_FAULT = 3
    NOT_EXERCISED = 4


# A fault of the harness hides what the kernel did, so it outranks a violation;
# a violation outranks something that was merely not seen.
_SEVERITY = (Exit.CONFIRMED, Exit.NOT_EXERCISED, Exit.VIOLATED, Exit.HARNESS_FAULT, Exit.USAGE)


def worst_exit(exits: list[Exit]) -> Exit:
    """The exit code of a batch of runs; an empty batch proved nothing and is NOT_EXERCISED."""
    return max(exits, key=_SEVERITY.index, default=Exit.NOT_EXERCISED)


class HarnessError(Exception):
    """A failure with its evidence: what was expected, what was found, and what to do about it."""

    exit: ClassVar[Exit] = Exit.HARNESS_FAULT

    def __init__(self, what: str, *, expected: str = "", found: str = "", hint: str = "", evidence: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.found = found
        self.hint = hint
        self.evidence = evidence

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (("expected", self.expected), ("found", self.found), ("try", self.hint)):
            if text:
                lines.append(f"  {label}: {text}")
        if self.evidence:
            lines += ["  | " + line for line in self.evidence.rstrip().splitlines()]
        return "\n".join(lines)


class UsageError(HarnessError):
    """Wrong input. Raised before anything boots."""

    exit = Exit.USAGE


class ScenarioError(UsageError):
    """A fault in a YAML file, at a line that an editor can jump to."""

    def __init__(self, path: Path | str, line: int, what: str, *, hint: str = "") -> None:
        super().__init__(f"{path}:{line}: {what}", hint=hint)
        self.path = Path(path)
        self.line = line


class DoesNotBuild(UsageError):
    """A patch does not apply, or the source does not compile or cannot be configured as asked.

    A type of its own, since `git bisect` skips such a revision.
    """


class KernelFault(HarnessError):
    """The kernel under test did something that no step of the scenario asked for."""

    exit = Exit.VIOLATED


class HostFault(HarnessError):
    """The host, QEMU, the network or the harness itself failed."""

    exit = Exit.HARNESS_FAULT


class DeadlineExceeded(HostFault):
    """A wait of the harness ran out of time."""


class NotExercised(HarnessError):
    """The engine, the CPU feature or the race that a scenario needs was not there."""

    exit = Exit.NOT_EXERCISED
