"""What the bytes of a trace event mean: the kernel's own description, events/*/*/format in tracefs.

The kernel prints an event by code of its own; for people, the description has the same as a C format string with
arguments. That much of C is understood here as the tracepoints of this harness and every kprobe event need. Of an
event with more than that the arguments stay unknown.

Sources: Documentation/trace/events.rst (4. Event formats), kernel/trace/trace_probe.c (print_fmt of probes).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_FIELD = re.compile(r"\tfield:(?P<type>.*?)\b(?P<name>\w+)(?:\[\d*\])?;\toffset:(\d+);\tsize:(\d+);\tsigned:(\d);")
_PRINT = re.compile(r'print fmt: "(?P<template>(?:[^"\\]|\\.)*)"(?P<arguments>.*)')
_CONVERSION = re.compile(r"%(?P<how>[-0#+ ]*\d*)(?:hh|h|ll|l|L|z)?(?P<what>p[sS]?|[diuxXcs%])")
_ARGUMENT = re.compile(r"(?:\([\w *]+\)\s*)?REC->(?P<field>\w+)(?:\[(?P<index>\d+)\])?|__get_str\((?P<string>\w+)\)")


@dataclass(frozen=True)
class Field:
    """Where a field is in an event. `located`: what stands there says where its string is, and how long."""

    offset: int
    size: int
    signed: bool
    located: bool = False

    def number(self, data: bytes, index: int = 0) -> int:
        size = self.size if self.size in (1, 2, 4, 8) else 8  # an array's elements are 8 bytes wide at most
        begin = self.offset + index * size
        return int.from_bytes(data[begin : begin + size], "little", signed=self.signed)

    def string(self, data: bytes) -> str:
        """A string; `(fault)` where the kernel could not read it, as it prints that itself."""
        begin, end = self.offset, self.offset + self.size if self.size else len(data)
        if self.located:  # __data_loc: the length in the upper half, the offset in the lower
            place = self.number(data)
            begin, end = place & 0xFFFF, (place & 0xFFFF) + (place >> 16)
        if begin == end:
            return "(fault)"
        return data[begin:end].partition(b"\0")[0].decode(errors="replace")


@dataclass(frozen=True)
class TraceFormat:
    """The format of one event type."""

    name: str
    type: int
    fields: dict[str, Field]
    template: str
    arguments: tuple[str, ...]

    def text(self, data: bytes, symbol: Callable[[int], str]) -> str | None:
        """What trace_pipe would print behind the event's name; None when that is not understood.

        Probed addresses stay numbers. `symbol` names the function at an address.
        """
        arguments = iter(self.arguments)

        def convert(conversion: re.Match[str]) -> str:
            if conversion["what"] == "%":
                return "%"
            value = self._value(next(arguments), data, as_string=conversion["what"] == "s")
            if isinstance(value, str):
                return f"%{conversion['how']}s" % value
            if conversion["what"] in ("ps", "pS"):
                return symbol(value)
            kind = {"i": "d", "u": "d", "p": "x"}.get(conversion["what"], conversion["what"])
            masked = value & (1 << 64) - 1 if kind in "xX" else value
            return f"%{conversion['how']}{kind}" % masked

        try:
            return _CONVERSION.sub(convert, self.template)
        except (_NotUnderstood, StopIteration, TypeError, OverflowError):
            return None

    def _value(self, argument: str, data: bytes, as_string: bool) -> int | str:
        match = _ARGUMENT.fullmatch(argument)
        field = self.fields.get(match["field"] or match["string"]) if match else None
        if match is None or field is None:
            raise _NotUnderstood(argument)
        return field.string(data) if as_string else field.number(data, int(match["index"] or 0))


class _NotUnderstood(ValueError):
    """An argument of a format that is more of C than is understood here."""


def parse_formats(text: str) -> dict[int, TraceFormat]:
    """The formats in the concatenated files, by the type number that events carry."""
    formats = (_parse_format(part) for part in re.split(r"^name: ", text, flags=re.MULTILINE)[1:])
    return {one.type: one for one in formats}


def _parse_format(text: str) -> TraceFormat:
    name = text.partition("\n")[0].strip()
    number = re.search(r"^ID: (\d+)", text, re.MULTILINE)
    shown = _PRINT.search(text)
    if number is None:
        raise ValueError(f"the format of trace event {name!r} has no ID")
    fields = {
        match["name"]: Field(int(match[3]), int(match[4]), match[5] == "1", "__data_loc" in match["type"])
        for match in _FIELD.finditer(text)
    }
    template = shown["template"].replace('\\"', '"').replace("\\n", "\n") if shown else "%s"
    arguments = _split(shown["arguments"]) if shown else ("unknown",)
    return TraceFormat(name, int(number[1]), fields, template, arguments)


def _split(arguments: str) -> tuple[str, ...]:
    """`, REC->a, f(b, c)`: the arguments; commas in parentheses do not separate."""
    depth, parts = 0, [""]
    for character in arguments:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return tuple(part.strip() for part in parts[1:])
