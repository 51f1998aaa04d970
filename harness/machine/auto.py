"""Which engine a scenario gets: the one that was named, or the first proven one that has what the scenario needs."""

from __future__ import annotations

import functools

from harness import progress
from harness.cache import NotInCache
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.machine import toolchain
from harness.machine.engine import AUTO, ENGINES, Engine, by_name
from harness.machine.host import host_cpu
from harness.machine.proof import Proof, proof_of
from harness.machine.toolchain import Qemu
from harness.scenario.machine import MachineSection

_UNPROVEN = "not proven on this boot of the host: it would be tried with a guest first"
_TOOLS_S = 600.0  # unpacking QEMU, and proving an engine by a boot


class Tools:
    """QEMU and the engines on it, of which `name` is one, or `auto`. What was found is not looked for again."""

    def __init__(self, name: str, qemu: Qemu | None = None) -> None:
        self.name = name
        self._qemu = qemu
        self._proofs: dict[str, Proof] = {}
        self._told: set[str] = set()

    @functools.cached_property
    def qemu(self) -> Qemu:
        """Raises what `toolchain.find` raises."""
        return self._qemu or toolchain.find(_deadline())

    def engine(self, machine: MachineSection | None = None) -> Engine:
        """The engine for a scenario's machine; without one, for any.

        Of those that are proven, `auto` takes the first that has what the machine needs; where none has, the first:
        the run then says what is missing. One that was named is taken or refused, never replaced: of those that rest
        on the host, a guest has to prove it first, because a broken KVM looks like a broken kernel in the guest.
        Raises UsageError for an unknown name, HostFault when the engine, or every engine, does not work here.
        """
        vendor = host_cpu().vendor
        if self.name != AUTO:
            return self._named(vendor)
        suited = [engine for engine in ENGINES if engine.suits(vendor)]
        wanted = machine or MachineSection()
        refused: list[str] = []
        for engine in sorted(suited, key=lambda engine: engine.lacks(wanted) != ""):
            if self._proof(engine).works:
                self._tell(engine, refused)
                return engine
            refused.append(engine.label)
        raise HostFault(
            "no engine works on this machine",
            found="; ".join(f"{proof.engine}: {proof.text}" for proof in self._proofs.values()),
            hint="`harness doctor` tries each and says what to do",
        )

    def foreseen(self, machine: MachineSection) -> tuple[Engine, str]:
        """The engine that `engine` would choose, and why, without trying any; in `reading_only`."""
        if self.name != AUTO:
            return self._foreseen_named(by_name(self.name, host_cpu().vendor))
        try:
            return self.engine(machine), "the first that is proven here and has what the scenario needs"
        except NotInCache:
            vendor = host_cpu().vendor
            suited = [engine for engine in ENGINES if engine.suits(vendor) and engine.label not in self._proofs]
            unproven = min(suited, key=lambda engine: engine.lacks(machine) != "")
            return unproven, _UNPROVEN

    def _foreseen_named(self, engine: Engine) -> tuple[Engine, str]:
        try:
            works = not engine.on_host or self._proof(engine).works
        except NotInCache:
            return engine, f"asked for; {_UNPROVEN}"
        why = "" if works else f", and does not work here: {self._proof(engine).text}"
        return engine, f"asked for{why}"

    def _named(self, vendor: str) -> Engine:
        engine = by_name(self.name, vendor)
        if engine.on_host and not (proof := self._proof(engine)).works:
            raise proof.fault()
        return engine

    def _proof(self, engine: Engine) -> Proof:
        """The engine's proof, with a note when it is seen first."""
        if engine.label not in self._proofs:
            proof = proof_of(engine, self.qemu, _deadline())
            if proof.works or self.name == AUTO:  # else it is an error, which has more to say
                progress.note(
                    f"engine {engine.label} {'works' if proof.works else 'does not work here'}: {proof.text}"
                )
            self._proofs[engine.label] = proof
        return self._proofs[engine.label]

    def _tell(self, engine: Engine, refused: list[str]) -> None:
        """Says what `auto` has chosen, once for each engine, where it fell back."""
        if refused and engine.label not in self._told:
            self._told.add(engine.label)
            progress.note(f"engine auto: {engine.label} in place of {' and '.join(refused)}, see `harness doctor`")


def _deadline() -> Deadline:
    return Deadline.after(_TOOLS_S, "QEMU and its engines")
