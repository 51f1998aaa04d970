"""`info registers -a`, as QEMU 11.1 answered it."""

from pathlib import Path

import pytest

from harness.errors import HostFault
from harness.machine.engine import SVM, VMX
from harness.machine.registers import parse

DATA = Path(__file__).parent / "data"


def test_a_running_guest_with_kvm_amd_loaded() -> None:
    first, second = parse((DATA / "registers-svm-on.txt").read_text())
    assert (first.cpu, second.cpu) == (0, 1)
    assert first.rip == 0xFFFFFFFF81CD1E9F
    assert (first.halted, second.halted) == (True, False)
    assert first.cr4 == 0x751EF0
    assert (first.rax, first.rdx) == (0, 0)
    assert SVM.on(first) and SVM.on(second)
    assert not VMX.on(first)


def test_cpus_in_the_firmware_have_no_64_bit_registers() -> None:
    first, second = parse((DATA / "registers-firmware.txt").read_text())
    assert (first.rip, second.rip) == (0xF0574, 0xFFF0)
    assert (first.rax, first.rdx) == (6, 0xCF9)
    assert not SVM.on(first)


def test_vmx_is_bit_13_of_cr4() -> None:
    text = (DATA / "registers-firmware.txt").read_text().replace("CR4=00000000", "CR4=00002000", 1)
    assert [VMX.on(cpu) for cpu in parse(text)] == [True, False]


@pytest.mark.parametrize("text", ["", "CPU#0\nCR0=1\n", "unknown command: 'info registers'"])
def test_another_format_is_a_host_fault(text: str) -> None:
    with pytest.raises(HostFault, match="known format"):
        parse(text)
