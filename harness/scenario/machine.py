"""The machine that a scenario needs: its CPUs and memory, and the emulated platform with what is to go wrong there.

The names in it (CPU models, VMX controls, SEAMCALL leaves, status codes, metadata fields) are those of the platform's
own tables, so a misspelt one is a fault of the file, with its line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from harness.errors import UsageError
from harness.platform.config import PlatformConfig
from harness.platform.cpu import CONTROLS, DEFAULT_MODEL, MODELS, CpuConfig
from harness.platform.tdx import FaultRule, ModuleConfig
from harness.platform.tdx.fields import parse_field
from harness.platform.tdx.leaves import LEAF_NUMBERS, parse_leaf
from harness.scenario.steps import Cpu


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _accepted_by(parse: Callable[[Any], object]) -> AfterValidator:
    """Values that one of the platform's parsers takes."""

    def check(value: Any) -> Any:
        try:
            parse(value)
        except UsageError as error:
            expected = f"; expected: {error.expected}" if error.expected else ""
            nearest = f"; did you mean {error.hint}?" if error.hint else ""
            raise ValueError(f"{error.what}{expected}{nearest}") from error
        return value

    return AfterValidator(check)


def _one_of(noun: str, words: Iterable[str]) -> tuple[AfterValidator, WithJsonSchema]:
    known = list(words)

    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"unknown {noun} {value!r}; there is: " + ", ".join(known))
        return value

    return AfterValidator(check), WithJsonSchema({"type": "string", "enum": known})


_is_model, _model_schema = _one_of("CPU model", MODELS)
_is_control, _control_schema = _one_of("VMX control", CONTROLS)

ModelName = Annotated[str, _is_model, _model_schema]
ControlName = Annotated[str, _is_control, _control_schema]
Leaf = Annotated[str, _accepted_by(parse_leaf), WithJsonSchema({"type": "string", "enum": list(LEAF_NUMBERS)})]
MetadataField = Annotated[str, _accepted_by(lambda name: list(parse_field(name)))]
Outcome = Annotated[
    str,
    BeforeValidator(lambda value: hex(value) if isinstance(value, int) else value, json_schema_input_type=str | int),
    _accepted_by(lambda outcome: FaultRule("TDH.SYS.INIT", outcome)),
]  # of a SEAMCALL: a completion status by name or number, `vmfail` (there is no module), `gp`, `ud`
U64 = Annotated[int, Field(ge=0, lt=1 << 64)]


def _version_text(version: tuple[int, int, int]) -> str:
    """As Linux prints it: 1.5.06."""
    return "{}.{}.{:02}".format(*version)


class CpuSection(_Frozen):
    """The emulated CPUs, and what is odd about some: `cpu: {model: sapphirerapids, feat_ctl: {1: 1}, vmxe: [2]}`."""

    model: ModelName = DEFAULT_MODEL
    """Which family, model and stepping; on engine `kvm` with VMX, which of QEMU's models."""
    feat_ctl: dict[Cpu, U64] = {}
    """IA32_FEATURE_CONTROL at power-on, by CPU: 1 is locked without VMX, 0 unlocked."""
    vmx: dict[Cpu, dict[ControlName, Literal[False]]] = {}
    """Controls that a CPU lacks."""
    vmxe: list[Cpu] = []
    """CPUs on which CR4.VMXE is set before KVM comes."""
    apicv: bool = True
    """Whether any CPU has APIC virtualization."""
    ept: bool = True
    """Whether any CPU has extended page tables."""

    @property
    def cpus(self) -> set[int]:
        """The CPUs that are spoken of."""
        return {*self.feat_ctl, *self.vmx, *self.vmxe}

    def config(self) -> CpuConfig:
        nowhere = tuple(name for name, there in (("apicv", self.apicv), ("ept", self.ept)) if not there)
        lacking: dict[int | None, tuple[str, ...]] = {None: nowhere} if nowhere else {}
        lacking.update((cpu, tuple(controls)) for cpu, controls in self.vmx.items())
        return CpuConfig(self.model, self.feat_ctl, lacking, tuple(self.vmxe))


class TdxFault(_Frozen):
    """Calls of one SEAMCALL leaf that end otherwise: `{leaf: TDH.SYS.LP.INIT, cpu: 2, outcome: TDX_SYS_BUSY}`."""

    leaf: Leaf
    """The SEAMCALL's leaf."""
    outcome: Outcome
    """A completion status by name or number; `vmfail` (there is no module), `gp` or `ud`."""
    cpu: Cpu | None = None
    """Calls on this CPU only."""
    call: Annotated[int, Field(ge=1)] = 1
    """The first call that it happens to."""
    times: Annotated[int, Field(ge=1)] | Literal["always"] = 1
    """To how many calls in a row."""

    def rule(self) -> FaultRule:
        times = None if self.times == "always" else self.times
        return FaultRule(self.leaf, self.outcome, self.cpu, self.call, times)


class TdxSection(_Frozen):
    """The TDX module of the platform, and what goes wrong with it; `tdx: {}` is one without faults."""

    keyids: Annotated[int, Field(ge=0, lt=1 << 15)] = 64
    """Private KeyIDs; they come after those of MKTME."""
    mktme_keyids: Annotated[int, Field(ge=0, lt=1 << 15)] = 63
    """KeyIDs of MKTME."""
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = _version_text(ModuleConfig.version)
    """The module's version, as Linux prints it."""
    loaded: bool = True
    """False: the platform has TDX, and firmware loaded no module."""
    metadata: dict[MetadataField, U64] = {}
    """Fields that have another value than a good module's."""
    missing: list[MetadataField] = []
    """Fields that the module does not know."""
    faults: list[TdxFault] = []
    """SEAMCALLs that end otherwise than the module's rules say."""

    def config(self) -> ModuleConfig:
        major, minor, update = (int(part) for part in self.version.split("."))
        return ModuleConfig(
            version=(major, minor, update),
            metadata=self.metadata,
            missing_metadata=frozenset(self.missing),
            mktme_keyids=self.mktme_keyids,
            tdx_keyids=self.keyids,
            faults=tuple(fault.rule() for fault in self.faults),
            loaded=self.loaded,
        )


class MachineSection(_Frozen):
    """The machine that a scenario needs."""

    cpus: Annotated[int, Field(ge=1, le=64)] = 4
    """CPUs at boot."""
    max_cpus: Annotated[int | None, Field(ge=1, le=64)] = None
    """CPUs that there is room for; more than `cpus` leaves some to `plug`. Without it as many as `cpus`."""
    sockets: Annotated[int, Field(ge=1, le=8)] = 1
    """Packages that `cpus` are spread over; keys of TDX are configured once per package."""
    memory: Annotated[int, Field(ge=256, le=16384)] = 768
    """MiB."""
    virt: Literal["any", "svm", "vmx"] = "any"
    """Which virtualization the CPUs must have; `any` takes the first engine that works."""
    cmdline: str = ""
    """Added to the kernel's command line."""
    without_virt: Annotated[int, Field(ge=0, le=63)] = 0
    """How many of the last CPUs lack SVM or VMX."""
    cpu: CpuSection | None = None
    """Which CPUs, and what is odd about emulated ones."""
    tdx: TdxSection | None = None
    """The TDX module; without this key there is no TDX."""

    @property
    def ceiling(self) -> int:
        """One more than the number of the last CPU that there can be."""
        return self.max_cpus or self.cpus

    def platform(self) -> PlatformConfig:
        """What the emulated platform is to be, on an engine that has one."""
        return PlatformConfig(
            cpu=(self.cpu or CpuSection()).config(), tdx=self.tdx.config() if self.tdx is not None else None
        )
