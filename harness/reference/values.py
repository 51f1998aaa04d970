"""What may stand as a field's value, in words: read off the type hints of the models."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union

from annotated_types import Ge, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.scenario import machine
from harness.scenario.expectations import Expectation, Outcomes, ReturnValue, Window
from harness.scenario.kinds import Id, KernelRange, Seconds, Selector
from harness.scenario.machine import CpuSection, MachineSection, TdxFault, TdxSection
from harness.scenario.model import ClaimUse, Point, Probe
from harness.scenario.steps import U64, Cpu, GuestStep, Step, Text

# Types that have a word of their own -> the word, and what it means. The order is that of the page.
_NAMED: tuple[tuple[Any, str, str], ...] = (
    (str, "text", ""),
    (bool, "yes or no", "`true` or `false`."),
    (int, "number", "Decimal, or hexadecimal with 0x."),
    (Text, "parameter", "Text, a number, or `true` and `false` for the kernel's Y and N."),
    (Cpu, "CPU", "A CPU's number, from 0."),
    (U64, "64 bits", "A number below 2^64, usually hexadecimal."),
    (machine.U64, "64 bits", ""),
    (Seconds, "duration", "`500ms`, `20s`, `2min`, or a number of seconds."),
    (Id, "id", "A lower-case word that the scenario itself gives: `first-load`."),
    (KernelRange, "kernels", '`"6.1"` (any 6.1.y), `">=6.12"`, `">=6.12,<7.3"`. Only version numbers are compared.'),
    (
        Selector,
        "event",
        "`NAME`, then where needed `.call`, `.return`, `.begin` or `.end`, `[argument=value]`, `@CPU` or `@each`.",
    ),
    (Window, "window", "A step's id, or a list of the first and the last one's."),
    (Outcomes, "outcomes", "OK, FAILED, an errno's name, HUNG or UNFINISHED; or a list of these."),
    (ReturnValue, "return value", "A number, or an errno's name for its negative."),
    (machine.ModelName, "CPU model", ""),
    (machine.ControlName, "VMX control", ""),
    (machine.Leaf, "leaf", "The name of a SEAMCALL's leaf: `TDH.SYS.INIT`."),
    (machine.MetadataField, "metadata field", "The name of a field that TDH.SYS.RD reads."),
    (machine.Outcome, "SEAMCALL outcome", "A completion status by name or number; `vmfail`, `gp` or `ud`."),
)

# Models, in the order in which the first that fits is taken -> what the page calls them.
_MODELS: tuple[tuple[type[BaseModel], str], ...] = (
    (ClaimUse, "[claim](#claims)"),
    (MachineSection, "[machine](#machine)"),
    (CpuSection, "[cpu](#machine-cpu)"),
    (TdxSection, "[tdx](#machine-tdx)"),
    (TdxFault, "[fault](#machine-tdx-faults)"),
    (Probe, "[function or tracepoint](#trace)"),
    (Point, "[point](#points)"),
    (GuestStep, "[step](#actors)"),
    (Step, "[step](#steps)"),
    (Expectation, "[expectation](#expectations)"),
)

MEANINGS: dict[str, str] = {word: meaning for _, word, meaning in _NAMED if meaning}
"""Word -> what may be written for it."""


def type_of(model: type[BaseModel], name: str) -> str:
    """What the field `name` of `model` takes: `CPU`, `list of event`, `all, none or list of CPU`."""
    return _words(typing.get_type_hints(model, include_extras=True)[name])


def default_of(field: FieldInfo) -> str:
    """The default as it would be written in YAML; empty where there is none, or an empty one."""
    default = None if field.is_required() else field.default
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if isinstance(default, (str, int)) else ""


def _words(hint: Any) -> str:
    for known, word, _ in _NAMED:
        if hint == known:
            return word
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType, Literal):
        return _alternatives(list(_choices(hint)))
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1:])
    if origin is list:
        return f"list of {_words(arguments[0])}"
    if origin is dict:
        return " → ".join(map(_words, arguments))
    return next(word for model, word in _MODELS if issubclass(hint, model))


def _choices(hint: Any) -> Iterator[str]:
    """`"a" | "b" | list[int] | None` one by one, without None: that is no value but the key's absence."""
    for one in typing.get_args(hint):
        if typing.get_origin(one) is Literal:
            yield from _choices(one)
        elif typing.get_origin(hint) is Literal:
            yield f"`{str(one).lower()}`"
        elif one is not types.NoneType:
            yield _words(one)


def _alternatives(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _annotated(base: Any, metadata: Sequence[Any]) -> str:
    """What a validator is known by is the type's name; a Field has the bounds, and the alias of one field."""
    validators = [one for one in metadata if not isinstance(one, FieldInfo)]
    if validators and len(validators) < len(metadata):
        return _words(Annotated[(base, *validators)])
    return _words(base) + _bounds([bound for one in metadata for bound in getattr(one, "metadata", ())])


def _bounds(metadata: Sequence[Any]) -> str:
    """` 0–8`, ` from 1`, ` below 32768`; the bounds that there are are never without a lower one."""
    low = next((bound.ge for bound in metadata if isinstance(bound, Ge)), None)
    for bound in metadata:
        if isinstance(bound, Le):
            return f" {low}–{bound.le}"
        if isinstance(bound, Lt):
            return f" below {bound.lt}"
    return f" from {low}" if low is not None else ""
