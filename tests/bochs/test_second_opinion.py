"""The emulated platform's VMX against an independent one: what a guest sees on tcg-vmx, and what it sees in Bochs.

Bochs takes minutes, so what it said is recorded in data/bochs.txt; every run compares tcg-vmx with the record, and
the slow test Bochs itself. Both boot the same kernel, the same initramfs and the same script.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import HostFault
from harness.images.direct import direct_image
from tests import guests
from tests.bochs import bochs, opinion, qemu
from tests.bochs.opinion import Difference, Explanation, Opinion, differences

RECORD = Path(__file__).parent / "data" / "bochs.txt"

BOCHS_S = 1800.0  # measured: 205 s at a load of 4 on 2 cores, 438 s at 13
QEMU_S = 300.0

# docs/fidelity.md has these too. An explanation that explains nothing any more fails the test.
CPUS_DIFFER = (
    Explanation.of(r"^cpu signature", "one is an Ice Lake, the other a later Xeon"),
    Explanation.of(r"^rdmsr 0x4[89]. value", "VMX capabilities"),
    Explanation.of(r"kvm_intel (enable_apicv|preemption_timer)$", "KVM reports VMX capabilities"),
    Explanation.of(r"kvm_intel vmentry_l1d_flush$", "Bochs's CPU says that it does not have L1TF"),
)
APPROXIMATED = (
    Explanation.of(
        "^VMXON of a pointer at an unmapped", "a plugin cannot raise #PF; no kernel has its operands there"
    ),
    Explanation.of("^VMLAUNCH after MOV SS", "a plugin does not see the interrupt shadow; VM entry fails anyhow"),
)
EXPLAINED = (*CPUS_DIFFER, *APPROXIMATED)


def ask(where: bochs.Run, folder: Path, seconds: float) -> Opinion:
    """What a guest says under the emulator `where`; also written to opinion.txt in `folder`."""
    deadline = Deadline.after(seconds, "the second opinion")
    kernel = guests.kernel()
    initrd = opinion.initramfs(kernel, folder, deadline)
    said = Opinion.parse(
        where(direct_image(kernel, deadline), initrd, opinion.CMDLINE, opinion.LAST_LINE, folder, deadline)
    )
    (folder / "opinion.txt").write_text(str(said))
    return said


def unexplained(found: list[Difference]) -> list[str]:
    return [str(difference) for difference in found if not any(one.explains(difference) for one in EXPLAINED)]


@pytest.fixture(scope="module")
def recorded() -> Opinion:
    return Opinion.parse(RECORD.read_text())


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Opinion:
    return ask(qemu.run, tmp_path_factory.mktemp("qemu"), QEMU_S)


# The record


def test_the_record_is_of_a_guest_that_used_vmx(recorded: Opinion) -> None:
    assert recorded.steps["load"][0] == "modprobe exits 0"
    assert '"step": "", "vcpus": 2' in recorded.steps["vm"][0]
    assert '"errno_name": "EAGAIN"' in recorded.steps["unload with a VM"][1]
    assert len(recorded.steps["instructions"]) > 100


def test_kvm_leaves_the_cpu_as_it_found_it(recorded: Opinion) -> None:
    assert recorded.steps["instructions"] == recorded.steps["instructions after KVM"]


def test_a_console_that_breaks_off_is_no_opinion(recorded: Opinion) -> None:
    half = str(recorded).partition("opinion: step unload\n")[0]
    with pytest.raises(HostFault, match="did not say all"):
        Opinion.parse(half)


def test_what_differs_is_named(recorded: Opinion) -> None:
    changed = Opinion.parse(
        str(recorded)
        .replace("VMXON in VMX operation: VMfailValid 15", "VMXON in VMX operation: succeeds")
        .replace("modprobe exits 0", "modprobe exits 1")
    )
    assert [str(difference) for difference in differences(recorded, changed)] == [
        "instructions: VMXON in VMX operation: VMfailValid 15 / succeeds",
        "load: modprobe exits 0: said / (nothing)",
        "load: modprobe exits 1: (nothing) / said",
        "instructions after KVM: VMXON in VMX operation: VMfailValid 15 / succeeds",
    ]


def test_what_varies_from_run_to_run_does_not_differ(recorded: Opinion) -> None:
    line = '{"op": "vm", "target": "/dev/kvm", "vcpus": 2, "pid": 210, "duration_us": 579, "errno": 0}'
    later = line.replace("210", "3").replace("579", "1000")
    console = "[    8.1] noise\nopinion: begin\nopinion: step vm\n{}\n[    {}] kvm: x\nopinion: end\n"
    first, second = (Opinion.parse(console.format(*said)) for said in ((line, "1.5"), (later, "12.25")))
    assert first == second
    assert first.steps["vm"][1] == "kvm: x"


# The emulators


@pytest.mark.boot
@pytest.mark.network
def test_tcg_vmx_agrees_with_what_bochs_said(recorded: Opinion, plugin: Opinion) -> None:
    assert not unexplained(list(differences(recorded, plugin)))


@pytest.mark.boot
@pytest.mark.network
def test_every_explanation_is_needed(recorded: Opinion, plugin: Opinion) -> None:
    found = list(differences(recorded, plugin))
    assert [one.reason for one in EXPLAINED if not any(map(one.explains, found))] == []


@pytest.mark.slow
@pytest.mark.boot
@pytest.mark.network
@pytest.mark.timeout(BOCHS_S + 300)
def test_bochs_says_what_was_recorded(recorded: Opinion, tmp_path: Path) -> None:
    """When it does not, and rightly so, the new record is opinion.txt of the test's folder."""
    said = ask(bochs.run, tmp_path, BOCHS_S)
    assert [str(difference) for difference in differences(recorded, said)] == []
