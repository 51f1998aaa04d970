"""A scenario: frozen, validated, and independent of any kernel or machine.

`load.py` makes it from YAML; every cross-reference in it is checked there, before anything boots.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from harness.scenario.expectations import Expectation
from harness.scenario.functions import Vendor
from harness.scenario.kinds import Id, KernelRange, PointPhase
from harness.scenario.machine import MachineSection
from harness.scenario.steps import Cpu, GuestStep, Hold, Release, Step

VerdictName = Literal["confirmed", "violated", "not exercised"]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True
    )


class Claim(_Frozen):
    """What a patch says must hold, with the place where it says so."""

    id: Id
    """A word that says it; it does not change."""
    text: str
    """In words that an expectation can decide."""
    source: str
    """Where that is said: a thread or a commit, then file and function."""
    number: int | None = None
    """Its number among the reference claims."""


class ClaimUse(_Frozen):
    """A claim in a scenario, and what is known of it: `known: {debian:6.1: violated}`."""

    claim: Claim
    """One of the reference claims, or one that the scenario writes out."""
    known: dict[str, VerdictName] = {}
    """By kernel, with its mutants: the verdict that is no news there."""
    since: str = ""
    """The commit that brought a known violation."""
    fixed_by: str = ""
    """The commit that ended a known violation."""
    means: dict[str, str] = {}
    """By kernel: one line on what its verdict, confirmed or the known one, comes to."""


class Probe(_Frozen):
    """A function (its call and return) or a tracepoint (`group:name`) that is to be traced."""

    function: str = ""
    """Its name in the kernel, or the one name for what has another in each version."""
    tracepoint: str = ""
    """`group:name`."""
    fetch: dict[str, str] = {}
    """By name of an argument: the kprobe fetch expression, Documentation/trace/kprobetrace.rst."""
    kernels: KernelRange = KernelRange()
    """The kernels on which it is traced."""
    vendor: Vendor | None = None
    """The kind of virtualization with which it is traced."""

    @property
    def name(self) -> str:
        """The name that selectors use."""
        return self.function or self.tracepoint.partition(":")[2]


class Point(_Frozen):
    """A named place in the kernel where a task can be held: whoever passes all filters, at the nth time."""

    function: str
    """Where; a name as in `trace`, which need not be traced."""
    phase: PointPhase = "call"
    """Before the function does anything, or when its caller is about to go on."""
    actor: Id | None = None
    """The actor's task, or one that it started."""
    task: str = ""
    """A task of this name (comm)."""
    cpu: Cpu | None = None
    """Whoever is on this CPU."""
    when: dict[str, str | int] = {}
    """By kprobe fetch expression: the value that it must have."""
    hit: Annotated[int, Field(ge=1)] = 1
    """At which time that all of it fits, from 1."""
    kernels: KernelRange = KernelRange()
    """The kernels that have this point; elsewhere its `hold` and `release` are left out."""
    vendor: Vendor | None = None
    """The kind of virtualization with which there is this point."""


class Scenario(_Frozen):
    """The whole of a scenario file."""

    path: Path
    title: str
    """One line for tables."""
    about: str = ""
    """What it is for, and what is surprising about it."""
    claims: list[ClaimUse]
    """What is decided."""
    kernels: list[str]
    """Where it is run, unless `--kernel` says otherwise."""
    machine: MachineSection = MachineSection()
    """What it is run on."""
    trace: list[Probe] = []
    """What is recorded beside the steps."""
    actors: dict[Id, SerializeAsAny[GuestStep]] = {}
    """By name: a step that runs beside the others, once `start` says so."""
    points: dict[Id, Point] = {}
    """By name: where a task can be held."""
    steps: list[SerializeAsAny[Step]]
    """What is done, in this order."""
    permutations: list[list[Id]] = []
    """Other orders of the steps, each the ids of all of them, which are run in place of theirs."""
    variant: int = 0
    """Which of the permutations this is, from 1; 0 for a scenario as it is written."""
    expect: list[SerializeAsAny[Expectation]]
    """What must be true afterwards."""

    @property
    def name(self) -> str:
        """The file's name without its ending, with a permutation's number: names runs, tests and rows of tables."""
        return f"{self.path.stem}#{self.variant}" if self.variant else self.path.stem

    def variants(self) -> list[Scenario]:
        """What is to be run: the scenario itself, or one for each of its permutations."""
        steps = {step.id: step for step in self.steps}
        return [
            self.model_copy(update={"steps": [steps[name] for name in order], "permutations": [], "variant": number})
            for number, order in enumerate(self.permutations, start=1)
        ] or [self]

    @property
    def holds(self) -> dict[str, Hold]:
        """By point, the step that waits for a task to be held there."""
        return {step.point: step for step in self.steps if isinstance(step, Hold)}

    def points_on(self, version: str, vendor: Vendor | None = None) -> dict[str, Point]:
        """The points that there are on a kernel `version` and a CPU `vendor` (None: any)."""
        return {
            name: point
            for name, point in self.points.items()
            if point.kernels.contains(version) and (vendor is None or point.vendor in (None, vendor))
        }

    def steps_on(self, version: str, vendor: Vendor | None = None) -> list[Step]:
        """The steps that are done on a kernel `version` and a CPU `vendor` (None: any).

        A point that is not there has no hold and no release.
        """
        points = self.points_on(version, vendor)
        return [
            step
            for step in self.steps
            if step.kernels.contains(version) and (not isinstance(step, (Hold, Release)) or step.point in points)
        ]

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
