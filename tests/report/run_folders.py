"""Folders of runs for tests of reports: recorded ones, and copies with something added."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from harness.judge.judge import judge
from harness.judge.record import RunRecord, load_record
from harness.judge.verdict import Judgement

RECORDED = Path(__file__).parent.parent / "recorded"
RUNS = sorted(path.name for path in RECORDED.iterdir() if path.is_dir())

VIOLATED = "mutant-check-before-register-violated"  # with holds, two samples, and a wrong state at one
CONFIRMED = "load-unload-6.12-confirmed"
KNOWN = "demo-6.1-known-violation"

# What a guest may print or call a task, were it up to somebody hostile.
HOSTILE = (
    "</script></title></style></textarea><script>document.title='pwned'</script><img src=x onerror=alert(1)>\"'&"
)


def judged(folder: Path) -> tuple[RunRecord, Judgement]:
    record = load_record(folder)
    return record, judge(record)


def recorded(name: str) -> tuple[RunRecord, Judgement]:
    return judged(RECORDED / name)


def copied(name: str, folder: Path) -> Path:
    shutil.copytree(RECORDED / name, folder)
    return folder


def with_events(name: str, folder: Path, *events: dict[str, Any]) -> Path:
    """A recorded run with more events at the end of its first boot."""
    copied(name, folder)
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines()
    last = max(json.loads(line)["seq"] or 0 for line in lines)
    frame = {"boot": 1, "source": "tracefs", "name": "console", "phase": "point", "task": "sh", "pid": 7, "cpu": 0}
    lines += [json.dumps({**frame, "seq": last + n, **event}) for n, event in enumerate(events, start=1)]
    path.write_text("".join(line + "\n" for line in lines))
    return folder


def hostile(folder: Path) -> Path:
    """A run whose kernel log, tasks, arguments, steps and scenario are as hostile as they can be."""
    with_events(
        VIOLATED,
        folder,
        {"args": {"text": HOSTILE}, "task": HOSTILE},
        {"name": HOSTILE, "phase": "call", "task": HOSTILE, "args": {HOSTILE: HOSTILE}},
    )
    with (folder / "console.log").open("a") as console:
        console.write(f"[   99.000000] {HOSTILE}\n[   99.1] \x1b[2J\x00\x07 {HOSTILE}\n")
    scenario = folder / "scenario.yaml"
    scenario.write_text(scenario.read_text().replace("title: reboot", f"title: {json.dumps(HOSTILE)} # reboot", 1))
    (folder / "qemu.sh").write_text(f"qemu {HOSTILE}\n")
    run = json.loads((folder / "run.json").read_text())
    run["kernel"]["label"] = run["qemu"] = HOSTILE
    run["fault"] = {"type": "HostFault", "exit": 3, "text": HOSTILE}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def long(folder: Path, events: int = 12_000) -> Path:
    """A run with so many events, most of one kind."""
    kinds = [
        {"name": "seamcall" if n % 50 else "cr4", "phase": "point", "cpu": n % 4, "args": {"leaf": "TDH.SYS.INFO"}}
        for n in range(events)
    ]
    for kind in kinds:
        if kind["name"] == "cr4":
            kind["args"] = {"old": "0x752ef0", "new": "0x752ef0"}
    return with_events(VIOLATED, folder, *kinds)
