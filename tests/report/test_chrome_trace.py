"""The trace for Perfetto: against a schema of its format, and what a schema cannot say."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.judge.judge import judge
from harness.report.chrome_trace import chrome_trace
from harness.report.timeline import timeline
from tests.judge.records import event, record
from tests.report.run_folders import KNOWN, RUNS, VIOLATED, hostile, judged, recorded

SCHEMA = json.loads((Path(__file__).parent / "trace_event_format.json").read_text())


def trace(name: str) -> dict[str, Any]:
    run, judgement = recorded(name)
    return json.loads(json.dumps(chrome_trace(run, timeline(run, judgement))))  # type: ignore[no-any-return]


def named(found: dict[str, Any], phase: str, name: str = "") -> list[dict[str, Any]]:
    return [one for one in found["traceEvents"] if one["ph"] == phase and name in one["name"]]


@pytest.mark.parametrize("name", RUNS)
def test_it_is_of_the_format(name: str) -> None:
    jsonschema.validate(trace(name), SCHEMA)


def test_hostile_names_are_of_the_format_too(tmp_path: Path) -> None:
    run, judgement = judged(hostile(tmp_path / "run"))
    jsonschema.validate(chrome_trace(run, timeline(run, judgement)), SCHEMA)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ph": "X", "name": "a", "pid": 1, "tid": 1, "ts": 0},
        {"ph": "b", "name": "a", "pid": 1, "tid": 1, "ts": 0, "cat": "hold"},
        {"ph": "C", "name": "a", "pid": 1, "tid": 1, "ts": 0, "args": {"on": True}},
        {"ph": "i", "name": "a", "pid": 1, "tid": 1, "ts": -1, "s": "t"},
        {"ph": "i", "name": "a", "pid": 1, "tid": 1, "ts": 1, "s": "x"},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {}},
        {"ph": "?", "name": "a", "pid": 1, "tid": 1, "ts": 1},
    ],
)
def test_the_schema_refuses_what_is_not(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"traceEvents": [wrong]}, SCHEMA)


@pytest.mark.parametrize("name", RUNS)
def test_complete_events_of_a_track_nest_and_spans_end(name: str) -> None:
    found = trace(name)
    tracks: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for one in named(found, "X"):
        tracks[one["pid"], one["tid"]].append((one["ts"], one["ts"] + one["dur"]))
    for spans in tracks.values():
        check_nesting(spans)
    holds = [(one["id"], one["name"]) for one in named(found, "b")]
    assert sorted(holds) == sorted((one["id"], one["name"]) for one in named(found, "e"))


def check_nesting(spans: list[tuple[float, float]]) -> None:
    around: list[float] = []
    for begin, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        while around and around[-1] <= begin:
            around.pop()
        assert not around or end <= around[-1], "it ends after what it is in"
        around.append(end)


def test_the_nesting_test_can_fail() -> None:
    with pytest.raises(AssertionError):
        check_nesting([(0, 5), (3, 7)])


def test_every_track_has_a_name() -> None:
    found = trace(KNOWN)
    names = {(one["pid"], one["tid"]) for one in named(found, "M", "thread_name")}
    used = {
        (one["pid"], one["tid"]) for one in found["traceEvents"] if one["ph"] in ("X", "i") and one.get("s") != "g"
    }
    assert used <= names


def test_virtualization_is_a_counter_per_cpu_and_holds_are_spans() -> None:
    found = trace(VIOLATED)
    values = [one["args"]["on"] for one in named(found, "C", "virtualization CPU 1")]
    assert values == [0, 1, 0]
    assert [one["name"] for one in named(found, "b")] == ["held at in-window", "held at at-reset"]
    assert [one["args"]["end"] for one in named(found, "e")] == ["released", "released"]


def test_an_event_carries_what_a_verdict_says_of_it() -> None:
    run = record("  - order: [on, late]\n", [event(1, 0, "late"), event(2, 0, "on")])
    found = chrome_trace(run, timeline(run, judge(run)))
    said = [one["args"]["evidence"] for one in found["traceEvents"] if "evidence" in one.get("args", {})]
    assert len(said) == 2 and all(text.startswith("c, failed: ") for text in said)
