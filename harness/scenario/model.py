"""A scenario: frozen, validated, and independent of any kernel or machine.

`load.py` makes it from YAML; every cross-reference in it is checked there, before anything boots.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from harness.scenario.expectations import Expectation
from harness.scenario.functions import Vendor
from harness.scenario.kinds import Id, KernelRange
from harness.scenario.machine import MachineSection
from harness.scenario.steps import GuestStep, Step

VerdictName = Literal["confirmed", "violated", "not exercised"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Claim(_Frozen):
    """What a patch says must hold, with the place where it says so."""

    id: Id
    text: str
    source: str
    number: int | None = None  # its number among the reference claims


class ClaimUse(_Frozen):
    """A claim in a scenario, and what is known of it: `known: {debian:6.1: violated}`."""

    claim: Claim
    known: dict[str, VerdictName] = {}  # kernel spec -> the verdict that is no news there
    fixed_by: str = ""  # the commit that ended a known violation


class Probe(_Frozen):
    """A function (its call and return) or a tracepoint (`group:name`) that is to be traced."""

    function: str = ""
    tracepoint: str = ""
    fetch: dict[str, str] = {}  # argument name -> kprobe fetch expression, Documentation/trace/kprobetrace.rst
    kernels: KernelRange = KernelRange()
    vendor: Vendor | None = None

    @property
    def name(self) -> str:
        """The name that selectors use."""
        return self.function or self.tracepoint.partition(":")[2]


class Point(_Frozen):
    """A named place in the kernel where an actor can be held."""

    function: str
    actor: Id | None = None
    phase: Literal["call", "return"] = "call"
    hit: Annotated[int, Field(ge=1)] = 1


class Scenario(_Frozen):
    """The whole of a scenario file."""

    path: Path
    title: str
    about: str = ""
    claims: list[ClaimUse]
    kernels: list[str]
    machine: MachineSection = MachineSection()
    trace: list[Probe] = []
    actors: dict[Id, SerializeAsAny[GuestStep]] = {}
    points: dict[Id, Point] = {}
    steps: list[SerializeAsAny[Step]]
    expect: list[SerializeAsAny[Expectation]]

    @property
    def name(self) -> str:
        """The file's name without its ending: names runs, tests and rows of tables."""
        return self.path.stem

    def steps_on(self, version: str) -> list[Step]:
        """The steps that are done on a kernel `version`."""
        return [step for step in self.steps if step.kernels.contains(version)]

    def expectations_on(self, version: str, vendor: Vendor) -> list[Expectation]:
        """The expectations that speak of a kernel `version` and a CPU `vendor`."""
        return [
            expectation
            for expectation in self.expect
            if expectation.kernels.contains(version) and expectation.vendor in (None, vendor)
        ]

    def probes_on(self, version: str, vendor: Vendor) -> list[Probe]:
        """The probes that are armed on a kernel `version` and a CPU `vendor`."""
        return [probe for probe in self.trace if probe.kernels.contains(version) and probe.vendor in (None, vendor)]
