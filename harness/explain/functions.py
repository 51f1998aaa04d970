"""A kernel function: its names, where it lives, who speaks of it, and what its events look like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from harness.explain.claims import claims
from harness.explain.explanation import Explanation, explanation
from harness.explain.kernels import homes, is_somewhere
from harness.explain.project import patches, place, scenarios
from harness.explain.seen import last_seen
from harness.scenario.functions import REAL_NAMES
from harness.scenario.model import Scenario

_FUNCTION = re.compile(r"\b([a-z_][a-z0-9_]+)\(\)")
_SHOWN = 10  # scenarios of a list


def spoken_of() -> set[str]:
    """Every function that the project speaks of, by the name that a scenario uses or by the kernel's."""
    in_scenarios = {name for scenario in scenarios() for name in (*_traced(scenario), *_held(scenario)) if name}
    in_claims = {name for claim in claims().values() for name in _FUNCTION.findall(f"{claim.text} {claim.source}")}
    return in_scenarios | in_claims | set(REAL_NAMES) | set(_spoken_names())


def is_function(name: str) -> bool:
    """Whether the project speaks of it, or a kernel of the cache has it."""
    return name in spoken_of() or (re.fullmatch(r"[A-Za-z_]\w*", name) is not None and is_somewhere(name))


def explain_function(name: str) -> Explanation:
    """Of a function for which `is_function` holds, by the scenario's or the kernel's name."""
    spoken = _spoken_names().get(name, name)
    reals = REAL_NAMES.get(spoken, ())
    symbols = list(dict.fromkeys(real.symbol for real in reals)) or [name]
    return explanation(
        "function",
        name,
        "" if spoken == name else f"Scenarios call it {spoken}.",
        {
            "names": [
                f"{real.symbol}() on kernels {real.kernels.text or 'of any version'}"
                + (f" with {real.vendor.upper()}" if real.vendor else "")
                for real in reals
            ],
            "lives in": homes(symbols),
            "claims": _claims({spoken, *symbols}),
            "traced by": _places(scenario for scenario in scenarios() if spoken in _traced(scenario)),
            "fetched as": _fetched(spoken),
            "held by": _places(scenario for scenario in scenarios() if spoken in _held(scenario)),
            "mutants that touch it": _mutants(symbols),
            "its events": [f"{spoken}: its call", f"{spoken}.return@each: its return on every CPU"],
            "seen in": last_seen(spoken),
        },
    )


def _spoken_names() -> Mapping[str, str]:
    """The kernel's name -> the scenario's, where they differ."""
    return {real.symbol: name for name, reals in REAL_NAMES.items() for real in reals if real.symbol != name}


def _traced(scenario: Scenario) -> set[str]:
    return {probe.function for probe in scenario.trace}


def _held(scenario: Scenario) -> set[str]:
    return {point.function for point in scenario.points.values()}


def _claims(names: Iterable[str]) -> Iterator[str]:
    wanted = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\(")
    for claim in claims().values():
        if wanted.search(f"{claim.text} {claim.source}"):
            yield f"{claim.id}: {claim.text}"


def _places(found: Iterable[Scenario]) -> Iterator[str]:
    names = [place(scenario) for scenario in found]
    if names:
        rest = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield ", ".join(names[:_SHOWN]) + rest


def _fetched(name: str) -> Iterable[str]:
    probes = [probe for scenario in scenarios() for probe in scenario.trace if probe.function == name]
    return dict.fromkeys(f'{key}: "{value}"' for probe in probes for key, value in probe.fetch.items())


def _mutants(symbols: Iterable[str]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for patch in patches():
        if any(patch.touches(symbol) for symbol in symbols):
            found.setdefault(patch.mutant.id, []).append(patch.version)
    yield from (f"{name} ({', '.join(versions)})" for name, versions in sorted(found.items()))
