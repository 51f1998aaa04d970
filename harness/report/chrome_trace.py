"""A run in the Trace Event Format, which ui.perfetto.dev and chrome://tracing open.

Steps and calls are complete events on the track of their task, where they nest; what a CPU did is instants on the
CPU's track; holds are asynchronous spans, and virtualization is a counter per CPU. The format wants a time where the
harness has an order: an event is a microsecond.

Source: "Trace Event Format", the public document of the Chromium project.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.judge.record import RunRecord
from harness.report.lanes import describe
from harness.report.timeline import Span, Timeline

TRACE = "trace.json"

# Processes of the trace: groups of tracks.
_CPUS, _TASKS, _STEPS, _SAMPLES = 1, 2, 3, 4
_NAMES = {_CPUS: "CPUs", _TASKS: "Tasks", _STEPS: "Steps and actors", _SAMPLES: "Samples"}
_HALF = 0.5  # of an event: a sample is taken between two

Track = tuple[int, int, int]  # boot, pid, and the CPU of an idle task


def chrome_trace(record: RunRecord, timeline: Timeline) -> dict[str, Any]:
    """The trace as JSON data."""
    tracks = _tracks(timeline)
    events = [
        *_names(timeline, tracks),
        *_calls(timeline, tracks),
        *_instants(timeline),
        *_steps(timeline),
        *_holds(timeline),
        *_virtualization(timeline),
        *_samples(timeline),
    ]
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {
            "clock": "the order of events; a microsecond is an event, and no time",
            "scenario": record.scenario.title,
            "kernel": str(record.kernel["label"]),
            "release": str(record.kernel["release"]),
            "engine": record.engine,
        },
    }


def _track(boot: int, pid: int, cpu: int) -> Track:
    """A task's own track; each CPU has an idle task."""
    return boot, pid, cpu if pid == 0 else -1


def _tracks(timeline: Timeline) -> dict[Track, int]:
    """Thread numbers for tasks: pids repeat, over boots and between the idle tasks."""
    found = dict.fromkeys(_track(event.boot, event.pid, event.cpu) for event in timeline.events)
    return {track: number for number, track in enumerate(found, start=1)}


def _names(timeline: Timeline, tracks: dict[Track, int]) -> Iterator[dict[str, Any]]:
    for pid, name in _NAMES.items():
        yield _metadata("process_name", pid, 0, {"name": name})
        yield _metadata("process_sort_index", pid, 0, {"sort_index": pid})
    for cpu in timeline.cpus:
        yield _metadata("thread_name", _CPUS, cpu, {"name": f"CPU {cpu}"})
    several = len(timeline.boots) > 1
    tasks = {_track(event.boot, event.pid, event.cpu): event for event in timeline.events}
    for track, number in tracks.items():
        task = tasks[track]
        boot = f"boot {task.boot}: " if several else ""
        yield _metadata("thread_name", _TASKS, number, {"name": f"{boot}{task.task or 'no task'}-{task.pid}"})
    for number, name in enumerate(_step_names(timeline)):
        yield _metadata("thread_name", _STEPS, number, {"name": name})


def _metadata(name: str, pid: int, tid: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "args": args}


def _step_names(timeline: Timeline) -> list[str]:
    return list(dict.fromkeys(span.name for span in timeline.spans if span.kind == "step"))


def _complete(span: Span, pid: int, tid: int, args: dict[str, Any]) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": span.name,
        "cat": span.kind,
        "pid": pid,
        "tid": tid,
        "ts": span.first,
        "dur": span.last - span.first,
        "args": {name: value for name, value in args.items() if value != ""},
    }


def _calls(timeline: Timeline, tracks: dict[Track, int]) -> Iterator[dict[str, Any]]:
    for span in timeline.spans:
        if span.kind == "call":
            event = timeline.events[span.first]
            args = {"cpu": span.cpu, "seq": event.seq, **event.args, "returned": span.outcome}
            args |= {} if span.ended else {"return": "not seen"}
            yield _complete(span, _TASKS, tracks[_track(span.boot, span.pid, span.cpu)], args)


def _steps(timeline: Timeline) -> Iterator[dict[str, Any]]:
    tids = {name: number for number, name in enumerate(_step_names(timeline))}
    for span in timeline.spans:
        if span.kind == "step":
            args = {"outcome": span.outcome} | ({} if span.ended else {"end": "not traced"})
            yield _complete(span, _STEPS, tids[span.name], args)


def _instants(timeline: Timeline) -> Iterator[dict[str, Any]]:
    for position, event in enumerate(timeline.events):
        args = {"seq": event.seq, "task": f"{event.task}-{event.pid}", "phase": event.phase, **event.args}
        if marks := timeline.marks.get(position):
            args["evidence"] = "; ".join(f"{mark.claim}, {mark.finding.value}: {mark.text}" for mark in marks)
        yield {
            "ph": "i",
            "s": "t",
            "name": describe(event),
            "cat": event.source,
            "pid": _CPUS,
            "tid": event.cpu,
            "ts": position,
            "args": args,
        }


def _holds(timeline: Timeline) -> Iterator[dict[str, Any]]:
    for number, span in enumerate(span for span in timeline.spans if span.kind == "hold"):
        frame = {"cat": "hold", "id": number, "name": f"held at {span.name}", "pid": _CPUS, "tid": span.cpu}
        yield {**frame, "ph": "b", "ts": span.first, "args": {"task": f"{span.task}-{span.pid}"}}
        yield {**frame, "ph": "e", "ts": span.last, "args": {"end": span.outcome}}


def _virtualization(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """A counter has no word for "not known": there it has no value until one is known."""
    for band in timeline.bands:
        if band.state != "unknown":
            yield {
                "ph": "C",
                "name": f"virtualization CPU {band.cpu}",
                "pid": _CPUS,
                "tid": band.cpu,
                "ts": band.first,
                "args": {"on": int(band.state == "on")},
            }


def _samples(timeline: Timeline) -> Iterator[dict[str, Any]]:
    for taken in timeline.samples:
        on = [cpu for cpu, state in taken.sample.virt.items() if state]
        yield {
            "ph": "i",
            "s": "g",
            "name": f"sample {taken.sample.name}",
            "cat": "sample",
            "pid": _SAMPLES,
            "tid": 0,
            "ts": max(taken.before - _HALF, 0),
            "args": {"virtualization on": on, "online": list(taken.sample.online)},
        }
