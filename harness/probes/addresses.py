"""Where a kernel's functions and variables are: System.map, or what the kernel says itself in /proc/kallsyms.

The compiler makes copies of a function, and names them with a suffix (GCC: -fipa-sra, -fipa-cp-clone,
-fpartial-inlining):

    f.isra.0        f with other arguments; the only one, or beside f
    f.constprop.0   f with some arguments fixed, likewise
    f.part.0        a piece of f: entering it is no call of f
    f.cold          the unlikely half of f: likewise
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

_CODE = frozenset("tTwW")

# A name that stands for the function itself, with what the compiler did to it.
_COPY = re.compile(r"(?P<base>[A-Za-z_]\w*)(?:\.(?:isra|constprop)\.\d+)+")


class NoFunction(LookupError):
    """There is no address that stands for the function; the text says why."""


@dataclass(frozen=True)
class Place:
    """A function's entry. `exact`: under its own name, so that its arguments are where the ABI puts them."""

    address: int
    exact: bool


@dataclass(frozen=True)
class _Symbol:
    name: str
    address: int
    code: bool


class SymbolTable:
    """The symbols of a kernel or of one module, as lines `ADDRESS TYPE NAME`.

    They are looked for in the text: making 210000 objects of it takes 0.7 s, and a run asks for a few dozen.
    """

    def __init__(self, symbols: Iterable[tuple[str, int, bool]]) -> None:
        """`symbols` are name, address, and whether it is code."""
        lines = (f"{address:016x} {'t' if code else 'd'} {name}" for name, address, code in symbols)
        self._text = "\n".join(("", *lines, ""))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the output of nm(1); a fourth column, the module, is not the kernel's and left out."""
        table = cls(())
        table._text = f"\n{text}\n"
        return table

    @property
    def text(self) -> str:
        """What `parse` makes the same table of."""
        return self._text.strip("\n")

    def variable(self, name: str) -> int | None:
        """The address of a symbol of exactly that name; None when there is none, or more than one."""
        found = {symbol.address for symbol in self._with_base(name) if symbol.name == name}
        return found.pop() if len(found) == 1 else None

    def at(self, address: int) -> str | None:
        """The name of a function or variable that begins at `address`."""
        begin = self._text.find(f"\n{address:016x} ")
        symbol = _symbol(self._line(begin + 1)) if begin >= 0 else None
        return symbol.name if symbol else None

    def room(self, address: int) -> int:
        """How many bytes there are between `address` and the next function or variable."""
        return min((other - address for other in self._addresses if other > address), default=0)

    @functools.cached_property
    def _addresses(self) -> frozenset[int]:
        symbols = (_symbol(line) for line in self._text.splitlines())
        return frozenset(symbol.address for symbol in symbols if symbol)

    def _with_base(self, base: str) -> Iterator[_Symbol]:
        """The symbols whose name is `base`, or that and a suffix."""
        column = f" {base}"
        at = self._text.find(column)
        while at >= 0:
            if self._text[at + len(column)] in "\n.":
                symbol = _symbol(self._line(self._text.rindex("\n", 0, at) + 1))
                if symbol is not None:
                    yield symbol
            at = self._text.find(column, at + 1)

    def _line(self, begin: int) -> str:
        return self._text[begin : self._text.index("\n", begin)]

    def function(self, name: str) -> tuple[Place, ...]:
        """Where calls of the function arrive: at itself, and at each copy of it.

        Raises NoFunction when there is none, and when unrelated functions share the name.
        """
        symbols = [symbol for symbol in self._with_base(name.partition(".")[0]) if symbol.code]
        exact = {symbol.address for symbol in symbols if symbol.name == name}
        copies = {symbol.address for symbol in symbols if _base_of_copy(symbol.name) == name}
        if len(exact) > 1:
            raise NoFunction(f"there are {len(exact)} functions {name}")
        if not exact and not copies:
            pieces = ", ".join(sorted(symbol.name for symbol in symbols))
            raise NoFunction(f"of {name} there is only {pieces}" if pieces else f"there is no function {name}")
        return tuple(Place(address, address in exact) for address in sorted(exact | copies))


def base_name(symbol: str) -> str:
    """The function that a symbol stands for: f for f and f.isra.0, f.cold for f.cold."""
    return _base_of_copy(symbol) or symbol


def _base_of_copy(symbol: str) -> str | None:
    match = _COPY.fullmatch(symbol)
    return match["base"] if match else None


def _symbol(line: str) -> _Symbol | None:
    words = line.split()
    return _Symbol(words[2], int(words[0], 16), words[1] in _CODE) if len(words) == 3 else None
