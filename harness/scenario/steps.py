"""What a scenario can do: one model per kind of step.

A step is written `- KIND: VALUE`, with `id`, `within` and `kernels` beside it where needed. A VALUE that is
not a mapping goes to the field that `shorthand` names. `harness/guest/actions.py` performs them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from harness.scenario.kinds import HoldMode, Id, KernelRange, Seconds, Selector

KVM_VENDOR = "kvm_vendor"  # stands for kvm_amd or kvm_intel, whichever the engine's CPU wants

Cpu = Annotated[int, Field(ge=0, le=254)]


def _number(value: Any) -> Any:
    return int(value, 0) if isinstance(value, str) else value


U64 = Annotated[int, BeforeValidator(_number, json_schema_input_type=int | str), Field(ge=0, lt=1 << 64)]


def _parameter(value: Any) -> Any:
    """A module parameter as the kernel takes it; bool parameters are Y and N (kernel/params.c, param_set_bool)."""
    if isinstance(value, bool):
        return "Y" if value else "N"
    return str(value) if isinstance(value, int) else value


Text = Annotated[
    str,
    BeforeValidator(_parameter, json_schema_input_type=str | float | bool),
]


class Step(BaseModel):
    """What every step has."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: ClassVar[str]
    shorthand: ClassVar[str] = ""
    takes_mapping: ClassVar[bool] = False
    default_within: ClassVar[float] = 30.0

    id: Id = ""
    """Names the step in expectations; without it the kind does, the second one of a kind as load-2."""
    within: Seconds | None = None
    """How long it may take; the kind has a default."""
    kernels: KernelRange = KernelRange()
    """The kernels on which it is done at all."""

    @property
    def title(self) -> str:
        """The step for a person: `load kvm_vendor`, with its id where it has one of its own."""
        value = getattr(self, self.shorthand, "") if self.shorthand else ""
        words = " ".join([self.kind, *(value if isinstance(value, list) else [str(value)])]).strip()
        return words if self.id.startswith(self.kind) else f"{self.id}: {words}"

    @property
    def seconds(self) -> float:
        """How long it may take."""
        return self.within if self.within is not None else self.default_within


class GuestStep(Step):
    """A step that one command in the guest carries out; most can also be actors."""

    cpu: Cpu | None = None
    """The CPU that the command is pinned to."""


class Load(GuestStep):
    """Insert a module and what it depends on: `load: kvm_vendor`, `load: {module: kvm, params: {…}}`."""

    kind = "load"
    shorthand = "module"
    module: str
    """Its name; `kvm_vendor` is kvm_amd or kvm_intel, whichever the engine's CPU wants."""
    params: dict[str, Text] = {}
    """Module parameters."""


class Unload(GuestStep):
    """Remove modules, in the order given: `unload: kvm_vendor`, `unload: {modules: [kvm_vendor, kvm]}`."""

    kind = "unload"
    shorthand = "modules"
    modules: Annotated[
        list[str],
        BeforeValidator(
            lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]
        ),
    ]
    """Their names, in the order in which they are removed."""


class Vm(GuestStep):
    """Open /dev/kvm and create a VM, with vCPUs where asked, and keep it until `close`: `vm: {vcpus: 1}`."""

    kind = "vm"
    shorthand = "vcpus"
    vcpus: Annotated[int, Field(ge=0, le=8)] = 0
    """How many vCPUs it is given; they are created and not run."""


class Close(GuestStep):
    """Close the VM that the named `vm` step opened: `close: vm`."""

    kind = "close"
    shorthand = "vm"
    vm: Id
    """The id of the `vm` step."""


class Offline(GuestStep):
    """Take a CPU offline through sysfs: `offline: 3`."""

    kind = "offline"
    shorthand = "target"
    target: Cpu
    """The CPU."""


class Online(GuestStep):
    """Bring a CPU online through sysfs: `online: 3`."""

    kind = "online"
    shorthand = "target"
    target: Cpu
    """The CPU."""


class Plug(Step):
    """Hot-plug a vCPU by QMP device_add and wait until the guest knows the CPU: `plug: 4`."""

    kind = "plug"
    shorthand = "target"
    target: Cpu
    """The new CPU's number: below `max_cpus` of the machine."""


class Unplug(Step):
    """Hot-unplug a vCPU by QMP device_del (the guest takes it offline first): `unplug: 4`."""

    kind = "unplug"
    shorthand = "target"
    target: Cpu
    """A CPU that a `plug` brought."""


class Suspend(GuestStep):
    """Suspend, and wake up by QMP: `suspend: mem` (S3), `suspend: s2idle`, `suspend: {mode: mem, pm_test: core}`."""

    kind = "suspend"
    shorthand = "mode"
    default_within = 60.0
    mode: Literal["mem", "s2idle"]
    """What is written to /sys/power/state: mem is S3; s2idle is suspend to idle."""
    pm_test: Literal["freezer", "devices", "platform", "processors", "core"] | None = None
    """How far it goes before it turns back, Documentation/power/basic-pm-debugging.rst."""


class Reboot(GuestStep):
    """Reboot, and stay paused at the reset: `reboot: force` is `reboot -f`, `orderly` ends processes first."""

    kind = "reboot"
    shorthand = "how"
    default_within = 60.0
    how: Literal["force", "orderly"]
    """`force` is reboot -f; `orderly` ends all processes first."""


class Poweroff(GuestStep):
    """Power off; QEMU stays, paused, with its registers: `poweroff: force`."""

    kind = "poweroff"
    shorthand = "how"
    default_within = 60.0
    how: Literal["force", "orderly"]
    """`force` is poweroff -f; `orderly` ends all processes first."""


class Halt(GuestStep):
    """Halt the system and wait for the kernel's last line: `halt: force`."""

    kind = "halt"
    shorthand = "how"
    default_within = 60.0
    how: Literal["force", "orderly"]
    """`force` is halt -f; `orderly` ends all processes first."""


class Kexec(GuestStep):
    """Load the running kernel's own image by kexec_file_load and jump into it: `kexec: force`."""

    kind = "kexec"
    shorthand = "how"
    default_within = 120.0
    how: Literal["force"]
    """`force` is kexec -e: nothing is ended first."""


class Panic(GuestStep):
    """Panic by sysrq-c; with a crash kernel loaded first, wait until that is up: `panic: {crash_kernel: true}`."""

    kind = "panic"
    shorthand = "crash_kernel"
    default_within = 120.0
    crash_kernel: bool = False
    """Whether a crash kernel is loaded first, and jumped into."""


class Boot(Step):
    """Go on after a reset: the next boot of the same machine, to its ready line: `boot: next`."""

    kind = "boot"
    shorthand = "which"
    default_within = 120.0
    which: Literal["next"]
    """There is only the next one."""


class Wrmsr(GuestStep):
    """Write an MSR on one CPU through /dev/cpu/N/msr: `wrmsr: {target: 2, msr: 0xc0000080, set_bits: 0x1000}`.

    Either `value`, or `set_bits`/`clear_bits` relative to what the MSR holds.
    """

    kind = "wrmsr"
    target: Cpu
    """The CPU whose MSR it is."""
    msr: U64
    """The MSR's number."""
    value: U64 | None = None
    """All of its new value."""
    set_bits: U64 = 0
    """Bits to set in what it holds."""
    clear_bits: U64 = 0
    """Bits to clear in what it holds."""

    @model_validator(mode="after")
    def _one_way(self) -> Wrmsr:
        if (self.value is None) == (not self.set_bits and not self.clear_bits):
            raise ValueError("give either `value`, or `set_bits` and/or `clear_bits`")
        return self


class Run(GuestStep):
    """Run a shell command; exit status 0 is OK, any other FAILED: `run: echo 1 > /proc/sys/kernel/x`."""

    kind = "run"
    shorthand = "command"
    command: str
    """For /bin/sh in the guest."""


class Sample(Step):
    """Record the state of the machine under a name: `sample: loaded`."""

    kind = "sample"
    shorthand = "name"
    name: Id
    """Names the sample in expectations."""


class Start(Step):
    """Start an actor, and go on at once, or, with `blocks`, when it sleeps in the kernel: `start: load`."""

    kind = "start"
    shorthand = "actor"
    actor: Id
    """Its name under `actors`."""
    blocks: bool = False
    """Whether to go on only when it sleeps in the kernel; one that comes back instead is not exercised."""


MACHINE_ENDS = ("reset", "power-off")


class Until(Step):
    """Wait for something: `until: load.exit` (an actor is done), `until: reset`, `until: {event: kvm_shutdown}`.

    Events and messages count from the begin of the step before; `state` is that of a sample taken now.
    """

    kind = "until"
    shorthand = "what"
    what: str = ""
    """`ACTOR.exit`, `reset` or `power-off`."""
    event: Selector | None = None
    """Such an event."""
    count: Annotated[int, Field(ge=1)] = 1
    """How many of these events."""
    dmesg: str | None = None
    """A kernel message, by a regular expression."""
    state: dict[str, str | int] = {}
    """Values of a sample, by path."""

    @model_validator(mode="after")
    def _one(self) -> Until:
        if [bool(self.what), self.event is not None, self.dmesg is not None, bool(self.state)].count(True) != 1:
            raise ValueError("wait for one of: ACTOR.exit, reset, power-off, {event: …}, {dmesg: …}, {state: …}")
        return self

    @property
    def actor(self) -> str:
        """The actor whose end it waits for; "" for something else."""
        name, _, event = self.what.partition(".")
        return name if event == "exit" else ""

    @property
    def title(self) -> str:
        awaited = self.what or (self.event.text if self.event else self.dmesg or str(self.state))
        return f"until {awaited}"


class Hold(Step):
    """Wait until a task is held at a point: `hold: in-window`.

    `mode` soft loops, with interrupts, and leaves the CPU to other tasks; busy keeps the CPU; hard stops the vCPU.
    """

    kind = "hold"
    shorthand = "point"
    point: Id
    """Its name under `points`."""
    mode: HoldMode = "soft"
    """What is held: the task, and its CPU goes on (soft) or is kept (busy); or the vCPU (hard)."""


class Release(Step):
    """Disarm a point and let its task go on, in one step: `release: in-window`."""

    kind = "release"
    shorthand = "point"
    point: Id
    """Its name under `points`."""


STEP_KINDS: dict[str, type[Step]] = {
    step.kind: step
    for step in (
        Load, Unload, Vm, Close, Offline, Online, Plug, Unplug, Suspend, Reboot, Poweroff, Halt, Kexec, Panic,
        Boot, Wrmsr, Run, Sample, Start, Until, Hold, Release,
    )
}  # fmt: skip

# Those that need the harness's attention while they run can only be steps.
ACTOR_KINDS = {
    kind: step
    for kind, step in STEP_KINDS.items()
    if issubclass(step, GuestStep) and step not in (Suspend, Halt, Panic)
}
