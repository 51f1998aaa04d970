"""Where a function is in the kernels of the cache, without booting any."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

from harness.kernels import store
from harness.kernels.model import Kernel
from harness.kernels.store import Entry
from harness.probes.addresses import NoFunction
from harness.probes.kallsyms import known_symbols
from harness.probes.symbols import modules_of

_MODULES = ("kvm", "kvm_amd", "kvm_intel")


@functools.cache
def stock_kernels() -> Mapping[str, Kernel]:
    """By spec, the newest kernel of the cache that nobody patched."""
    newest: dict[str, Entry] = {}
    for entry in store.entries():
        if isinstance(entry, Entry) and not entry.parts.base and not entry.parts.provenance.get("patches"):
            newest[entry.spec] = max(entry, newest.get(entry.spec, entry), key=lambda one: one.created)
    return {spec: newest[spec].kernel(spec) for spec in sorted(newest)}


def homes(symbols: Sequence[str]) -> Iterator[str]:
    """For each kernel, which of `symbols` it has, and in which module."""
    for spec, kernel in stock_kernels().items():
        places = modules_of(symbols, kernel, _MODULES)
        found = [f"{symbol}() in {', '.join(places[symbol])}" for symbol in symbols if symbol in places]
        found += [f"{symbol}() in the kernel itself" for symbol in symbols if _is_in_kernel(kernel, symbol)]
        yield f"{spec} ({kernel.release}): " + ("; ".join(found) or "nowhere: not there, or inlined")


def is_somewhere(symbol: str) -> bool:
    """Whether any of the kernels has a function of that name."""
    return any(
        _is_in_kernel(kernel, symbol) or modules_of([symbol], kernel, _MODULES) for kernel in stock_kernels().values()
    )


def _is_in_kernel(kernel: Kernel, symbol: str) -> bool:
    table = known_symbols(kernel)
    try:
        return table is not None and bool(table.function(symbol))
    except NoFunction as error:
        return str(error).startswith("there are")
