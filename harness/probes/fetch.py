"""Kprobe fetch expressions as specs of the plugin's probes, so that a scenario need not know which source traces it.

Source: Documentation/trace/kprobetrace.rst, "FETCHARGS". What a kprobe can and the plugin cannot (nested
dereferences, bit-fields, arrays, user memory, $stack, $comm) is None, and stays with the kernel's own tracer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_U64 = (1 << 64) - 1

# struct pt_regs' names, as a kprobe takes them (arch/x86/kernel/ptrace.c) -> the CPU's.
_REGISTERS = {name: f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")}
_REGISTERS |= {f"r{number}": f"r{number}" for number in range(8, 16)}

# System V ABI, figure 3.4: the first six arguments.
_ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")

_DEFAULT_TYPE = "x64"
_STRING_MAX = 64  # bytes; as much as the plugin takes
_TYPE = re.compile(r"(?P<sign>[usx])(?P<bits>8|16|32|64)")

_REGISTER = r"%(?P<register>\w+)|\$arg(?P<argument>[1-6])"
_VALUE = re.compile(_REGISTER)
_DEREFERENCE = re.compile(rf"(?P<offset>[+-](?:0x[0-9a-f]+|\d+))\((?:{_REGISTER})\)")
_MEMORY = re.compile(r"@(?P<place>0x[0-9a-f]+|[A-Za-z_]\w*)(?P<offset>[+-](?:0x[0-9a-f]+|\d+))?")


@dataclass(frozen=True)
class Fetch:
    """What the plugin is to read, and how the kernel's tracer would print it."""

    spec: str
    type: str  # u32, s8, x64 …, or string

    def text(self, raw: int | str) -> str:
        """The value, given by the plugin as an unsigned number, in decimal or, for x types, hexadecimal."""
        match = _TYPE.fullmatch(self.type)
        if match is None:
            return str(raw)
        value, bits = int(str(raw), 0), int(match["bits"])
        if match["sign"] == "s" and value >> (bits - 1):
            value -= 1 << bits
        return f"{value:#x}" if match["sign"] == "x" else str(value)


def compile_fetch(expression: str, address_of: Callable[[str], int | None]) -> Fetch | None:
    """The spec for a fetch expression; `address_of` gives the address of a variable of the kernel.

    None when the plugin cannot do it.
    """
    place, _, kind = expression.partition(":")
    kind = kind or _DEFAULT_TYPE
    if kind == "string":
        size = f"{_STRING_MAX:x}s"
    elif match := _TYPE.fullmatch(kind):
        size = str(int(match["bits"]) // 8)
    else:
        return None
    where = _where(place, address_of)
    # A register is a number; a string is always behind an address.
    if where is None or (kind == "string" and where.startswith("r:")):
        return None
    return Fetch(f"{where}:{size}", kind)


def _where(place: str, address_of: Callable[[str], int | None]) -> str | None:
    if match := _VALUE.fullmatch(place):
        register = _register(match)
        return register and f"r:{register}"
    if match := _DEREFERENCE.fullmatch(place):
        register = _register(match)
        return register and f"d:{register}:{int(match['offset'], 0) & _U64:x}"
    if match := _MEMORY.fullmatch(place):
        base = int(match["place"], 16) if match["place"].startswith("0x") else address_of(match["place"])
        return None if base is None else f"m:{base + int(match['offset'] or '0', 0) & _U64:x}"
    return None


def _register(match: re.Match[str]) -> str | None:
    return _ARGUMENTS[int(match["argument"]) - 1] if match["argument"] else _REGISTERS.get(match["register"])
