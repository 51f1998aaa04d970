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
    """The symbols of a kernel or of one module, by their name without suffix."""

    def __init__(self, symbols: Iterable[tuple[str, int, bool]]) -> None:
        """`symbols` are name, address, and whether it is code."""
        self._by_base: dict[str, list[_Symbol]] = {}
        for name, address, code in symbols:
            self._by_base.setdefault(name.partition(".")[0], []).append(_Symbol(name, address, code))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From lines `ADDRESS TYPE NAME` (nm(1)); a fourth column, the module, is not the kernel's and left out."""
        return cls(_parse(text))

    def variable(self, name: str) -> int | None:
        """The address of a symbol of exactly that name; None when there is none, or more than one."""
        found = {symbol.address for symbol in self._by_base.get(name, ()) if symbol.name == name}
        return found.pop() if len(found) == 1 else None

    def at(self, address: int) -> str | None:
        """The name of a function or variable that begins at `address`."""
        return self._by_address.get(address)

    def room(self, address: int) -> int:
        """How many bytes there are between `address` and the next function or variable."""
        return min((other - address for other in self._by_address if other > address), default=0)

    @functools.cached_property
    def _by_address(self) -> dict[int, str]:
        return {symbol.address: symbol.name for symbols in self._by_base.values() for symbol in symbols}

    def function(self, name: str) -> tuple[Place, ...]:
        """Where calls of the function arrive: at itself, and at each copy of it.

        Raises NoFunction when there is none, and when unrelated functions share the name.
        """
        symbols = [symbol for symbol in self._by_base.get(name.partition(".")[0], ()) if symbol.code]
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


def _parse(text: str) -> Iterator[tuple[str, int, bool]]:
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            yield words[2], int(words[0], 16), words[1] in _CODE
