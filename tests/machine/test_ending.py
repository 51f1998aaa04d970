"""Whose fault the end of a boot is."""

from __future__ import annotations

import pytest

from harness.errors import Exit, KernelFault
from harness.machine.ending import Ending, EndingKind, GuestEnded, GuestInDoubt, GuestOutOfReach, HangInDoubt
from harness.machine.host import host_cpu, this_host


@pytest.mark.parametrize(
    ("kind", "emulator", "fault", "blame"),
    [
        (EndingKind.RESET, "", GuestEnded, Exit.VIOLATED),
        (EndingKind.SILENT, "", GuestEnded, Exit.VIOLATED),
        (EndingKind.RESET, "QEMU TCG", GuestInDoubt, Exit.HARNESS_FAULT),
        (EndingKind.SILENT, "QEMU TCG", GuestInDoubt, Exit.HARNESS_FAULT),
        (EndingKind.PANIC, "QEMU TCG", GuestEnded, Exit.VIOLATED),  # the kernel tells of it
        (EndingKind.POWER_OFF, "QEMU TCG", GuestEnded, Exit.VIOLATED),  # no CPU does that by mistake
        (EndingKind.QEMU_DIED, "QEMU TCG", GuestOutOfReach, Exit.HARNESS_FAULT),
    ],
)
def test_a_kernel_on_emulated_kvm_is_not_blamed_for_an_end_without_a_word(
    kind: EndingKind, emulator: str, fault: type[Exception], blame: Exit
) -> None:
    error = Ending(kind, 2, "the guest reset, or triple-faulted", "the last line", emulator).fault()
    assert type(error) is fault
    assert error.exit is blame
    assert error.evidence == "the last line"


def test_what_is_in_doubt_says_what_to_do() -> None:
    error = Ending(EndingKind.RESET, 2, "the guest reset, or triple-faulted", "", "QEMU TCG").fault()
    assert "on a KVM whose CPUs are emulated (QEMU TCG)" in str(error)
    assert "--engine tcg-svm" in str(error)


def test_a_hang_that_is_in_doubt_keeps_its_evidence() -> None:
    hang = KernelFault("step 'load' did not come back", expected="x", found="y", evidence="modprobe D __mutex_lock")
    error = HangInDoubt(hang, "QEMU TCG")
    assert error.exit is Exit.HARNESS_FAULT
    assert error.evidence == hang.evidence
    assert str(error).startswith("step 'load' did not come back, on a KVM whose CPUs are emulated (QEMU TCG)")


def test_the_cpus_of_this_host_are_emulated_or_not() -> None:
    assert bool(this_host(()).emulator) is host_cpu().model.startswith("QEMU TCG")
