"""Results as a table and as JSON, with the machine that they are of."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.bench.figures import Figure, Missing, Ratio, Results, spread
from harness.machine.host import cpus, host_cpu

BENCH_FORMAT = 1  # of the JSON document; raised when a field changes its meaning

_VERDICT = {None: "", True: "[green]reached[/]", False: "[bold red]missed[/]"}


@dataclass(frozen=True)
class Conditions:
    """What the figures depend on beside the program. Loads are averages over a minute."""

    date: str
    cpu: str
    cpus: int
    load_before: float
    load_after: float

    @classmethod
    def since(cls, load_before: float) -> Conditions:
        """Those of a bench that ends now."""
        now = time.strftime("%Y-%m-%d %H:%M:%S%z")
        return cls(now, host_cpu().model, cpus(), round(load_before, 2), round(os.getloadavg()[0], 2))

    def __str__(self) -> str:
        return (
            f"{self.date}, {self.cpus} CPUs ({self.cpu}), load {self.load_before} before and {self.load_after} after"
        )


def document(results: Sequence[Results], conditions: Conditions) -> dict[str, Any]:
    """The JSON document; docs/performance.md describes it."""
    return {
        "format": BENCH_FORMAT,
        "conditions": asdict(conditions),
        "sections": [
            {
                "name": section.section,
                "figures": [_figure_json(figure) for figure in section.figures],
                "ratios": [_ratio_json(ratio) for ratio in section.ratios],
                "missing": [_missing_json(missing) for missing in section.missing],
            }
            for section in results
        ],
    }


def print_table(console: Console, results: Sequence[Results], conditions: Conditions) -> None:
    """The figures in seconds, the ratios with their targets, and below the table what could not be measured."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("seconds", overflow="fold")
    for heading in ("median", "min", "max", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("target", no_wrap=True)
    for number, section in enumerate(results):
        if number:
            table.add_row()
        for figure in section.figures:
            table.add_row(Text(figure.name), *_cells(figure.seconds), _target(figure))
        for ratio in section.ratios:
            table.add_row(Text(ratio.name, style="bold"), *_cells(ratio.values), _target(ratio))
    console.print(table)
    for missing in (missing for section in results for missing in section.missing):
        console.print(f"\n[magenta]not measured[/]: {missing.name}")
        console.print(Text(str(missing.error)), soft_wrap=True)
    console.print(f"\n{conditions}", style="dim", highlight=False, soft_wrap=True)


def _target(measured: Figure | Ratio) -> str:
    return "" if measured.target is None else f"≤ {measured.target:g} {_VERDICT[measured.reached]}"


def _cells(values: Sequence[float]) -> Iterator[str]:
    *measured, count = spread(values)
    yield from (f"{value:.2f}" for value in measured)
    yield str(count)


def _figure_json(figure: Figure) -> dict[str, Any]:
    return {"name": figure.name.strip(), "unit": "s", **_spread_json(figure.seconds), **_target_json(figure)}


def _ratio_json(ratio: Ratio) -> dict[str, Any]:
    return {"name": ratio.name, **_spread_json(ratio.values), **_target_json(ratio)}


def _target_json(measured: Figure | Ratio) -> dict[str, Any]:
    return {"target": measured.target, "reached": measured.reached}


def _spread_json(values: Sequence[float]) -> dict[str, Any]:
    median, least, most, count = (round(value, 4) for value in spread(values))
    return {"median": median, "min": least, "max": most, "n": count, "values": [round(value, 4) for value in values]}


def _missing_json(missing: Missing) -> dict[str, Any]:
    error = missing.error
    return {"name": missing.name, "type": type(error).__name__, "exit": int(error.exit), "text": str(error)}
