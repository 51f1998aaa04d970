"""Nights with real guests: a worker that proves what it has, and a kernel that goes from green to red."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.judge.record import load_record
from harness.paths import PROJECT
from tests.fleet.labs import lab

pytestmark = pytest.mark.boot

HARNESS = Path(sys.executable).with_name("harness")
CLAIM = "reboot-in-flight-undone"


def matrix(folder: Path, kernel: str) -> Path:
    """Of one kernel that keeps its name from night to night."""
    path = folder / "nightly.yaml"
    path.write_text(
        f"kernels: [{{kernel: '{kernel}', name: series}}]\nscenarios: [{PROJECT}/scenarios/demo.yaml]\n"
        "engines: [tcg-svm]\nretry: 0\n"
    )
    return path


def harness(folder: Path, *words: object) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON document of a night."""
    argv = [HARNESS, "matrix", *words, "--json", folder / "night.json"]
    environment = {**os.environ, "HARNESS_RUNS": str(folder / "runs")}
    code = subprocess.run([str(word) for word in argv], cwd=folder, env=environment, timeout=500).returncode
    return code, json.loads((folder / "night.json").read_text())


def test_a_green_night_in_a_lab_and_a_red_one_on_this_host(tmp_path: Path) -> None:
    with lab(tmp_path) as there:
        words = [str(HARNESS), "worker", there.address, "--jobs", "1", "--only", "tcg"]
        environment = {**os.environ, "HARNESS_RUNS": str(tmp_path / "runs of the worker")}
        worker = subprocess.Popen(words, env=environment)
        try:
            code, green = harness(tmp_path, matrix(tmp_path, "debian:6.12"), "--scheduler", there.address)
        finally:
            worker.kill()
            worker.wait()
    assert (code, green["state"], green["exit"]) == (0, "finished", 0)
    line = next(line for line in green["lines"] if line["claim"] == CLAIM)
    assert (line["status"], line["verdict"]) == ("new", "confirmed")
    folder = Path(line["folder"])
    assert folder.parent == tmp_path / "runs" / "nightly-1", "it came back"
    assert load_record(folder).kernel["label"] == "series"

    code, red = harness(tmp_path, matrix(tmp_path, "debian:6.12 +state-check-deleted"))
    assert (code, red["night"], red["exit"]) == (1, 2, 1)
    line = next(line for line in red["lines"] if line["claim"] == CLAIM)
    assert (line["status"], line["verdict"], line["reference"]) == ("broke", "violated", 1)
    assert "not EBUSY" in line["evidence"]
    assert "patched or built otherwise" in line["span"]["text"]
