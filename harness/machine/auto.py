"""Which engine a run gets: the one that was named, or the first that is proven to work here."""

from __future__ import annotations

from harness import progress
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.machine import toolchain
from harness.machine.engine import AUTO, ENGINES, Engine, by_name
from harness.machine.host import host_cpu
from harness.machine.proof import Proof, proof_of
from harness.machine.toolchain import Qemu

_TOOLS_S = 600.0  # unpacking QEMU, and proving an engine by a boot


def tools(name: str) -> tuple[Qemu, Engine]:
    """QEMU, and the engine `name` on it; raises like `toolchain.find` and `choose`."""
    deadline = Deadline.after(_TOOLS_S, "QEMU and its engines")
    qemu = toolchain.find(deadline)
    return qemu, choose(name, qemu, deadline)


def choose(name: str, qemu: Qemu, deadline: Deadline) -> Engine:
    """The engine `name`; for `auto` the first proven one, with a note that says which and why.

    Raises UsageError for an unknown name, HostFault when no engine works here.
    """
    vendor = host_cpu().vendor
    if name != AUTO:
        return by_name(name, vendor)
    failed: list[Proof] = []
    for engine in ENGINES:
        if not engine.suits(vendor):
            continue
        proof = proof_of(engine, qemu, deadline)
        if proof.works:
            progress.note(f"engine {engine.label}: {proof.text}")
            return engine
        progress.note(f"not engine {engine.label}: {proof.text}")
        failed.append(proof)
    raise HostFault(
        "no engine works on this machine",
        found="; ".join(f"{proof.engine}: {proof.text}" for proof in failed),
        hint="`harness doctor` tries each and says what to do",
    )
