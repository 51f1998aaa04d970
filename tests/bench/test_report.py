"""The table and the JSON, on made-up numbers."""

from __future__ import annotations

import io
import json

from rich.console import Console

from harness.bench.figures import Figure, Missing, Ratio, Results
from harness.bench.report import BENCH_FORMAT, Conditions, document, print_table
from harness.errors import HostFault

CONDITIONS = Conditions("2027-01-02 03:04:05+0000", "A CPU", cpus=2, load_before=0.25, load_after=1.5)
OURS, THEIRS = Figure("ours", (4.0, 4.5, 3.5)), Figure("theirs", (8.0, 10.0, 9.0))
COMPARED = Results("compared", (OURS, THEIRS), (Ratio.of("ours / theirs", OURS, THEIRS, 0.5),), ())
BROKEN = Results(
    "broken", (), (), (Missing("the other", HostFault("it does not run", hint="install it", evidence="oops")),)
)


def table(*results: Results, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_table(console, results, CONDITIONS)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_has_every_figure_and_the_target_beside_its_ratio() -> None:
    lines = table(COMPARED)
    assert lines[0].split() == ["seconds", "median", "min", "max", "n", "target"]
    assert lines[1].split() == ["ours", "4.00", "3.50", "4.50", "3"]
    assert lines[2].split() == ["theirs", "9.00", "8.00", "10.00", "3"]
    assert lines[3].split() == ["ours", "/", "theirs", "0.45", "0.39", "0.50", "3", "≤", "0.5", "reached"]
    assert "2027-01-02 03:04:05+0000, 2 CPUs (A CPU), load 0.25 before and 1.5 after" in lines


def test_a_missed_target_is_said() -> None:
    ratio = Ratio("ours / theirs", (0.7,), 0.5)
    assert any("≤ 0.5 missed" in line for line in table(Results("compared", (), (ratio,), ())))


def test_a_figure_can_have_a_target_of_its_own() -> None:
    lines = table(Results("s", (Figure("quick", (1.0, 2.0, 1.2), 1.5), Figure("slow", (2.0,), 1.5)), (), ()))
    assert [line.split()[-3:] for line in lines[1:3]] == [["≤", "1.5", "reached"], ["≤", "1.5", "missed"]]


def test_numbers_are_never_cut_in_a_narrow_terminal() -> None:
    long = Figure("a name that is longer than the terminal is wide, " * 2, (123.456,))
    assert any("123.46  123.46  123.46" in line for line in table(Results("s", (long,), (), ()), width=60))


def test_what_is_missing_is_told_with_its_reason() -> None:
    lines = table(COMPARED, BROKEN)
    assert "not measured: the other" in lines
    assert "it does not run" in lines
    assert "  try: install it" in lines


def test_json() -> None:
    data = json.loads(json.dumps(document([COMPARED, BROKEN], CONDITIONS)))
    assert data["format"] == BENCH_FORMAT
    assert data["conditions"]["load_before"] == 0.25
    compared, broken = data["sections"]
    assert compared["figures"][0] == {
        "name": "ours",
        "unit": "s",
        "median": 4.0,
        "min": 3.5,
        "max": 4.5,
        "n": 3,
        "values": [4.0, 4.5, 3.5],
        "target": None,
        "reached": None,
    }
    [ratio] = compared["ratios"]
    assert (ratio["median"], ratio["target"], ratio["reached"]) == (0.45, 0.5, True)
    [missing] = broken["missing"]
    assert (missing["name"], missing["type"], missing["exit"]) == ("the other", "HostFault", 3)
    assert "install it" in missing["text"]
