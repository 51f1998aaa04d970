"""The small value types that scenarios are made of: durations, errnos, kernel ranges, event selectors."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version
from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min)?")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, None: 1.0}
_ID = re.compile(r"[a-z][a-z0-9_-]*")


def parse_duration(value: Any) -> float:
    """Seconds from `20s`, `500ms`, `2min` or a plain number of seconds. Raises ValueError."""
    match = _DURATION.fullmatch(str(value))
    seconds = float(match[1]) * _UNIT_SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise ValueError(f"{value!r} is not a duration; write 500ms, 20s or 2min")
    return seconds


def parse_errno(value: Any) -> str:
    """An errno name, OK for success (0), or FAILED for a command's other exit statuses. Raises ValueError."""
    name = "OK" if str(value) == "0" else str(value)
    if name in ("OK", "FAILED"):
        return name
    name = name.lstrip("-")
    if name.startswith("E") and isinstance(getattr(errno, name, None), int):
        return kernel_errno(name)
    raise ValueError(f"{value!r} is not an errno name; write OK, EBUSY, EIO …")


# What may become of an actor that never comes back: it sleeps in the kernel for good, or nobody knows.
HUNG, UNFINISHED = "HUNG", "UNFINISHED"
AWAY = frozenset({HUNG, UNFINISHED})


def parse_outcome(value: Any) -> str:
    """What may become of a step: an errno name, OK or FAILED; of an actor also one of AWAY. Raises ValueError."""
    return str(value) if value in AWAY else parse_errno(value)


# libc's second names for one number; the kernel's own (include/uapi/asm-generic/errno.h) comes second.
_ERRNO_ALIASES = {"ENOTSUP": "EOPNOTSUPP", "EWOULDBLOCK": "EAGAIN", "EDEADLOCK": "EDEADLK"}


def kernel_errno(name: str) -> str:
    """The kernel's name of an errno that libc has two names for."""
    return _ERRNO_ALIASES.get(name, name)


def parse_id(value: Any) -> str:
    """A lower-case identifier. Raises ValueError."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"{value!r} is not an id; write a lower-case word such as first-load")
    return value


Seconds = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=str | float)]
Errno = Annotated[str, BeforeValidator(parse_errno, json_schema_input_type=str | Literal[0])]
OutcomeName = Annotated[str, BeforeValidator(parse_outcome, json_schema_input_type=str | Literal[0])]
Id = Annotated[
    str, BeforeValidator(parse_id, json_schema_input_type=Annotated[str, Field(pattern=f"^{_ID.pattern}$")])
]


class _FromText:
    """A frozen value that a scenario writes as one string and pydantic builds with `parse`."""

    text: str
    json_types: ClassVar[tuple[str, ...]] = ("string",)  # as which JSON types it may be written

    @classmethod
    def parse(cls, value: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.text),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": list(cls.json_types), "description": (cls.__doc__ or "").split("\n")[0]}


@dataclass(frozen=True)
class KernelRange(_FromText):
    """Kernel versions: 6.1 (any 6.1.y), ">=6.12", ">=6.12,<7.3".

    The version numbers are the only thing compared; distribution suffixes are not.
    """

    text: str = ""
    json_types = ("string", "number")  # YAML outside the harness takes 6.12 for a number

    @classmethod
    def parse(cls, value: Any) -> KernelRange:
        text = str(value)
        cls._specifiers(text)
        return cls(text)

    @staticmethod
    def _specifiers(text: str) -> SpecifierSet:
        try:
            if re.fullmatch(r"\d+\.\d+", text):
                return SpecifierSet(f"=={text}.*")
            return SpecifierSet(text)
        except InvalidSpecifier as error:
            raise ValueError(
                f'{text!r} is not a range of kernel versions; write 6.1, ">=6.12" or ">=6.12,<7.3"'
            ) from error

    def contains(self, version: str) -> bool:
        """Whether `version` (such as 6.12.95) is in the range; the empty range has every version."""
        return self._specifiers(self.text).contains(Version(version))


Phase = Literal["call", "return", "point", "begin", "end", "held", "released", "lost"]

# Where in a function a point is, and how a task is held there: in a loop that takes interrupts and yields to other
# tasks (soft) or that keeps the CPU (busy), or with its vCPU stopped (hard).
PointPhase = Literal["call", "return"]
HoldMode = Literal["soft", "busy", "hard"]

_SELECTOR = re.compile(
    r"(?P<name>[A-Za-z_][\w:/-]*)"
    r"(?:\.(?P<phase>call|return|begin|end|held|released|lost))?"
    r"(?:\[(?P<where>[^\]]*)\])?"
    r"(?:@(?P<cpu>each|\d+))?"
)


@dataclass(frozen=True)
class Selector(_FromText):
    """Events: kvm_online_cpu, kvm_online_cpu.return[ret=0]@each, cpuhp_enter[function=kvm_online_cpu]@2, load.end.

    `phase` None takes a function's call, a tracepoint's only phase, and what is held at a point. `cpu` "each" asks
    for at least one event on every online CPU; a number asks for that CPU alone.
    """

    text: str
    name: str
    phase: Phase | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    cpu: int | Literal["each"] | None = None

    @classmethod
    def parse(cls, value: Any) -> Selector:
        match = _SELECTOR.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(
                f"{value!r} does not select events; write name, name.return, name[arg=value]@each or step.end"
            )
        where = dict(_condition(part) for part in (match["where"] or "").split(",") if part.strip())
        cpu = match["cpu"]
        return cls(
            text=value,
            name=match["name"],
            phase=match["phase"],  # type: ignore[arg-type]  # the regex admits only Phase's words
            where=where,
            cpu="each" if cpu == "each" else int(cpu) if cpu is not None else None,
        )

    @property
    def of_step(self) -> bool:
        """Whether it selects a step's own mark (load.begin) and not a kernel event."""
        return self.phase in ("begin", "end")

    @property
    def of_point(self) -> bool:
        """Whether it selects what a point's hold came to (in-window.released)."""
        return self.phase in ("held", "released", "lost")


def _condition(part: str) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    if not equals:
        raise ValueError(f"{part!r} is not a condition; write arg=value")
    return name.strip(), value.strip()
