"""What must be true afterwards: one model per kind of expectation.

An expectation is written `- KIND: VALUE` with `claim` beside it. `harness/judge/findings.py` decides them.
Every expectation counts for one claim; `kernels` and `vendor` limit it to some kernels or to SVM or VMX.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from harness.scenario.kinds import Id, KernelRange, OutcomeName, Selector, parse_errno
from harness.scenario.steps import Cpu


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Window = Annotated[
    list[Id],
    BeforeValidator(_listed, json_schema_input_type=Id | Annotated[list[Id], Field(min_length=1, max_length=2)]),
    Field(min_length=1, max_length=2),
]


Outcomes = Annotated[
    list[OutcomeName],
    BeforeValidator(_listed, json_schema_input_type=OutcomeName | list[OutcomeName]),
    Field(min_length=1),
]


def _return_value(value: Any) -> int | str:
    """An int as it is, or an errno name (with or without minus) as the name."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    name = parse_errno(value)
    return 0 if name == "OK" else name


ReturnValue = Annotated[int | str, BeforeValidator(_return_value)]


class Expectation(BaseModel):
    """What every expectation has."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: ClassVar[str]
    shorthand: ClassVar[str] = ""
    takes_mapping: ClassVar[bool] = False  # the shorthand's value is itself a mapping

    claim: Id = ""
    """The claim that it decides; may be left out where the scenario has one claim."""
    kernels: KernelRange = KernelRange()
    """The kernels that it speaks of."""
    vendor: Literal["svm", "vmx"] | None = None
    """The kind of virtualization that it speaks of."""

    @property
    def selectors(self) -> list[Selector]:
        """The events that it talks about."""
        return []

    @property
    def samples(self) -> list[str]:
        """The samples that it looks at."""
        return []

    @property
    def step_ids(self) -> list[str]:
        """The steps that it refers to by id."""
        return []


class InWindow(Expectation):
    """`during: step` looks at that step only; `during: [first, last]` from the one's begin to the other's end."""

    during: Window | None = None
    """The step, or the first and the last step, of the window; without it the whole run."""

    @property
    def step_ids(self) -> list[str]:
        return list(self.during or [])


class Order(InWindow):
    """Every event of each entry comes before every event of the next; `per: cpu` compares on each CPU by itself.

    `order: [vendor_enable.return@each, register_syscore, register_syscore.return]`
    """

    kind = "order"
    shorthand = "events"
    events: Annotated[list[Selector], Field(min_length=2)]
    """Two or more, in the order that must be."""
    per: Literal["cpu", "all"] = "all"
    """Whether events are compared on each CPU by itself."""

    @property
    def selectors(self) -> list[Selector]:
        return self.events

    @property
    def step_ids(self) -> list[str]:
        return [*super().step_ids, *(event.name for event in self.events if event.of_step)]


class Never(InWindow):
    """No such event, with its probe armed and nothing lost: `never: {event: kvm_online_cpu, during: load}`."""

    kind = "never"
    shorthand = "event"
    event: Selector
    """What must not have happened."""

    @property
    def selectors(self) -> list[Selector]:
        return [self.event]


class Count(InWindow):
    """How often: `count: {event: vendor_enable, per: cpu, is: 1}`; `min`/`max` instead of `is` for a range."""

    kind = "count"
    event: Selector
    """What is counted."""
    per: Literal["cpu", "all"] = "all"
    """Whether on each CPU that was online, or in all."""
    is_: Annotated[int | None, Field(alias="is", ge=0)] = None
    """So often."""
    min: Annotated[int | None, Field(ge=0)] = None
    """At least so often."""
    max: Annotated[int | None, Field(ge=0)] = None
    """At most so often."""

    @model_validator(mode="after")
    def _bounded(self) -> Count:
        if (self.is_ is None) == (self.min is None and self.max is None):
            raise ValueError("give either `is`, or `min` and/or `max`")
        return self

    @property
    def selectors(self) -> list[Selector]:
        return [self.event]


class Returns(InWindow):
    """Every return of a function gives this value: `returns: {event: kvm_online_cpu, is: 0}`, `is: EIO` for -EIO."""

    kind = "returns"
    event: Selector
    """The function."""
    is_: Annotated[ReturnValue, Field(alias="is")]
    """The value; an errno's name stands for its negative number."""

    @property
    def selectors(self) -> list[Selector]:
        return [self.event]


class Arguments(InWindow):
    """Every such event carries these values: `arguments: {event: kvm_shutdown, are: {system_state: 6}}`."""

    kind = "arguments"
    event: Selector
    """The events, all of which carry the values."""
    are: dict[str, str | int]
    """Values by name: of `fetch` in `trace`, or of the tracepoint."""

    @property
    def selectors(self) -> list[Selector]:
        return [self.event]


class ExitStatus(Expectation):
    """The outcome of steps and actors, one of those given: `exit: {load: [OK, EBUSY], unload: OK}`."""

    kind = "exit"
    shorthand = "steps"
    takes_mapping = True
    steps: dict[Id, Outcomes]
    """By id of a step or name of an actor: its outcome, or those that are right."""

    @property
    def step_ids(self) -> list[str]:
        return list(self.steps)


class Virt(Expectation):
    """Which CPUs had virtualization on (EFER.SVME or CR4.VMXE) at a sample: `virt: {at: loaded, on: all}`."""

    kind = "virt"
    at: Id
    """The sample."""
    on: Literal["all", "none"] | list[Cpu]
    """All online CPUs, none, or exactly these."""

    @property
    def samples(self) -> list[str]:
        return [self.at]


class State(Expectation):
    """Values of a sample: `state: {at: loaded, are: {modules.kvm.refcnt: 1, hotplug.3: 0, devices.kvm: 1}}`."""

    kind = "state"
    at: Id
    """The sample."""
    are: dict[str, str | int]
    """Values by path."""

    @property
    def samples(self) -> list[str]:
        return [self.at]


class Dmesg(InWindow):
    """A kernel message that is there (`present`) or not (`absent`), a regular expression: `dmesg: {present: "…"}`."""

    kind = "dmesg"
    present: str | None = None
    """A regular expression that a line matches."""
    absent: str | None = None
    """A regular expression that no line matches."""

    @model_validator(mode="after")
    def _one(self) -> Dmesg:
        if (self.present is None) == (self.absent is None):
            raise ValueError("give either `present` or `absent`")
        return self


class Splat(InWindow):
    """A splat that the scenario wants: `splat: "WARNING.*kvm"`. Any other splat is a violation."""

    kind = "splat"
    shorthand = "matching"
    matching: str
    """A regular expression that the splat's title matches."""


EXPECTATION_KINDS: dict[str, type[Expectation]] = {
    expectation.kind: expectation
    for expectation in (Order, Never, Count, Returns, Arguments, ExitStatus, Virt, State, Dmesg, Splat)
}
