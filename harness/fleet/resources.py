"""What a lab's workers announce, and jobs ask for: one resource for each way of having virtualization."""

from __future__ import annotations

from collections.abc import Iterator

from harness import progress
from harness.deadline import Deadline
from harness.machine import toolchain
from harness.machine.engine import ENGINES, Engine
from harness.machine.host import host_cpu
from harness.machine.proof import proof_of

_RESOURCES = {
    "kvm (vmx)": "kvm-vmx",
    "kvm (svm)": "kvm-svm",
    "tcg-svm": "tcg",
    "tcg-vmx": "tdx",  # the emulated platform, which has VMX and a TDX module
}
NAMES = tuple(_RESOURCES.values())


def resource(engine: Engine) -> str:
    """What a job with this engine asks for."""
    return _RESOURCES[engine.label]


def proven(deadline: Deadline) -> Iterator[str]:
    """The resources of this host, proven as `harness doctor` does, by a guest for each engine.

    What was proven since the host was booted is not tried again. Raises HostFault without QEMU or a kernel to try.
    """
    vendor = host_cpu().vendor
    qemu = toolchain.find(deadline)
    for engine in ENGINES:
        if engine.suits(vendor):
            proof = proof_of(engine, qemu, deadline)
            progress.note(f"{resource(engine)}: {'' if proof.works else 'no; '}{proof.text}")
            if proof.works:
                yield resource(engine)
