"""All that a run left behind, as the judge sees it: read from the run's folder, never from a live guest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.guest.outcome import STEPS_LOG, Outcome
from harness.machine.host import Host
from harness.observe.console_log import ConsoleLog
from harness.observe.sample import AT_RESET, SAMPLES_LOG, Sample
from harness.probes.event import EVENTS_LOG, Event
from harness.scenario.functions import Vendor
from harness.scenario.kinds import HoldMode
from harness.scenario.load import build_scenario
from harness.scenario.model import Scenario
from harness.scenario.yaml_file import read_yaml

RUN_FORMAT = 1  # raised when an old judge would misread a new run
_RUN_KEYS = frozenset(
    ["scenario", "kernel", "engine", "vendor", "online", "armed", "lost", "complete", "fault", "expected_panic"]
)


@dataclass(frozen=True)
class Fault:
    """What ended a run early: the name of the exception's type, its exit code, and its message."""

    type: str
    exit: int
    text: str


@dataclass(frozen=True)
class Hold:
    """A task that was held at a point: by whom and how, and what became of it (released, lost, end of run).

    `lines` are the console's, from the hold to a little after its end.
    """

    point: str
    symbol: str
    holder: str
    mode: HoldMode
    cpu: int
    task: str
    pid: int
    end: str
    lines: tuple[int, int]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Hold:
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{**{name: data[name] for name in names}, "lines": tuple(data["lines"])})


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    `lost` counts lost trace events per boot; `complete` are the boots traced to their end. Events of the names in
    `by_platform` come from the emulated platform instead: always up to the very end of a boot, lost only where
    `lost_by_platform` says so.
    """

    folder: Path
    name: str  # of the scenario's file
    scenario: Scenario
    kernel: Mapping[str, Any]  # spec, release, version, key, provenance
    engine: str
    vendor: Vendor
    online: tuple[int, ...]  # CPUs online when the first boot was ready
    armed: tuple[str, ...]  # names of the probes that the kernel accepted
    events: tuple[Event, ...] = ()
    samples: Mapping[str, Sample] = field(default_factory=dict)
    resets: Mapping[int, Sample] = field(default_factory=dict)  # by boot, those that were taken at its reset
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    console: ConsoleLog = field(default_factory=lambda: ConsoleLog(()))
    lost: Mapping[int, int] = field(default_factory=dict)
    complete: frozenset[int] = frozenset()
    by_platform: frozenset[str] = frozenset()
    lost_by_platform: Mapping[int, int] = field(default_factory=dict)
    idle_faults: tuple[str, ...] = ()  # what the scenario let go wrong on the platform, and did not
    holds: tuple[Hold, ...] = ()
    waiting: frozenset[int] = frozenset()  # pids of tasks that were seen to wait while somebody was held
    fault: Fault | None = None
    expected_panic: bool = False
    started: str = ""  # ISO 8601
    host: Host | None = None  # that ran the guest; of older runs it is not known

    @property
    def version(self) -> str:
        return str(self.kernel["version"])


def load_record(folder: Path) -> RunRecord:
    """Reads a run's folder. Raises UsageError when it is none, or was written by a newer harness."""
    run = _read_run(folder)
    samples = [Sample.from_json(line) for line in _jsonl(folder / SAMPLES_LOG)]
    return RunRecord(
        folder=folder,
        name=run["scenario"],
        scenario=build_scenario(read_yaml(folder / "scenario.yaml")),
        kernel=run["kernel"],
        engine=run["engine"],
        vendor=run["vendor"],
        online=tuple(run["online"]),
        armed=tuple(run["armed"]),
        events=tuple(Event.from_json(line) for line in _jsonl(folder / EVENTS_LOG)),
        samples={sample.name: sample for sample in samples},
        resets={sample.boot: sample for sample in samples if sample.name == AT_RESET},
        outcomes={line["id"]: Outcome.from_json(line) for line in _jsonl(folder / STEPS_LOG)},
        console=ConsoleLog.parse(_text(folder / "console.log")),
        lost={int(boot): count for boot, count in run["lost"].items()},
        complete=frozenset(run["complete"]),
        # Runs from before the emulated platform have none of these.
        by_platform=frozenset(run.get("by_platform", ())),
        lost_by_platform={int(boot): count for boot, count in run.get("lost_by_platform", {}).items()},
        idle_faults=tuple(run.get("idle_faults", ())),
        # Likewise from before tasks could be held.
        holds=tuple(Hold.from_json(hold) for hold in run.get("holds", ())),
        waiting=frozenset(run.get("waiting", ())),
        fault=Fault(**run["fault"]) if run["fault"] else None,
        expected_panic=run["expected_panic"],
        started=run.get("started", ""),
        host=Host.from_json(run["host"]) if "host" in run else None,
    )


def _read_run(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        run = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{folder} is not the folder of a run: {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    if not isinstance(run, dict) or run.get("format") != RUN_FORMAT:
        found = run.get("format") if isinstance(run, dict) else type(run).__name__
        raise UsageError(f"{path} has another format", expected=f"format {RUN_FORMAT}", found=f"format {found}")
    if missing := _RUN_KEYS - run.keys():
        raise UsageError(f"{path} is incomplete: it lacks " + ", ".join(sorted(missing)))
    return run


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_text(path).splitlines(), start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}:{number}: not JSON: {error}") from error
