"""How a boot of the guest ended, and whose fault that is."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from harness.errors import HarnessError, HostFault, KernelFault


class EndingKind(enum.StrEnum):
    RUNNING = "running"  # it did not
    RESET = "reset"
    POWER_OFF = "power-off"
    PANIC = "panic"
    SILENT = "silent"  # nothing on the console, no answer on SSH's port
    SSH_LOST = "ssh-lost"  # the kernel lives, its SSH server does not answer
    QEMU_DIED = "qemu-died"


@dataclass(frozen=True)
class Ending:
    """What became of one boot: `text` for people, `evidence` from the console or from QEMU's own output."""

    kind: EndingKind
    boot: int  # counts from 1
    text: str
    evidence: str = ""
    emulator: str = ""  # of the CPUs that KVM runs the guest on; "" for real ones, and where the engine is no KVM

    def fault(self) -> HarnessError:
        """The exception that puts the blame where it belongs."""
        if self.emulator and self.kind in _WITHOUT_A_WORD:
            return GuestInDoubt(self)
        return _FAULT[self.kind](self)


class GuestEnded(KernelFault):
    """The kernel panicked, reset, switched off or hung, and no step had asked for that."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"{ending.text}, and no step had asked for that", evidence=ending.evidence)
        self.ending = ending


class GuestOutOfReach(HostFault):
    """QEMU died, or SSH did while the kernel goes on: nothing that proves the kernel wrong."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.text, evidence=ending.evidence)
        self.ending = ending


class GuestInDoubt(HostFault):
    """The guest reset or fell silent on a KVM whose own CPUs are emulated, and its kernel said nothing of it.

    TCG's SVM did that to kernels that are well: docs/lab.md, "What to believe of it".
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(
            _EMULATED.format(ending.text, ending.emulator),
            expected="an end of which the kernel tells: a panic",
            hint=_ELSEWHERE,
            evidence=ending.evidence,
        )
        self.ending = ending


_EMULATED = "{}, on a KVM whose CPUs are emulated ({})"
_ELSEWHERE = "run it again; what happens on --engine tcg-svm too is the kernel's"


class HangInDoubt(HostFault):
    """A guest hangs on a KVM whose own CPUs are emulated: one that QEMU has lost leaves tasks waiting like a deadlock
    of the kernel."""

    def __init__(self, hang: KernelFault, emulator: str) -> None:
        super().__init__(
            _EMULATED.format(hang.what, emulator),
            expected=hang.expected,
            found=hang.found,
            hint=_ELSEWHERE,
            evidence=hang.evidence,
        )


_WITHOUT_A_WORD = frozenset({EndingKind.RESET, EndingKind.SILENT})

_FAULT: dict[EndingKind, type[GuestEnded] | type[GuestOutOfReach]] = {
    EndingKind.RUNNING: GuestOutOfReach,
    EndingKind.RESET: GuestEnded,
    EndingKind.POWER_OFF: GuestEnded,
    EndingKind.PANIC: GuestEnded,
    EndingKind.SILENT: GuestEnded,
    EndingKind.SSH_LOST: GuestOutOfReach,
    EndingKind.QEMU_DIED: GuestOutOfReach,
}
