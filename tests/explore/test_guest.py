"""A small exploration of a real guest: stopped in the middle, gone on with, and its discovery done again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import Exit
from tests.cli.test_run import harness

pytestmark = pytest.mark.boot

# One point each leaves two schedules: the load to its end first, or the reboot while the load stands.
POINTS = ("--points", "load=register_syscore", "--points", "reboot=machine_restart")

_BUSY_S = 280  # each of the two takes 15 s on an idle host, 80 s at a load of 12


def test_load_and_reboot(tmp_path: Path) -> None:
    begun = harness(
        tmp_path, "explore", "load", "reboot", *POINTS, "--engine", "tcg-vmx", "--dir", "x", "--limit", "1"
    )
    assert begun.returncode == Exit.VIOLATED, begun.stderr
    assert "harness explore --resume" in begun.stdout
    results = tmp_path / "x" / "results.jsonl"
    (first,) = results.read_text().splitlines()
    done = harness(tmp_path, "explore", "--resume", "x", "--json", "x.json", timeout=_BUSY_S)
    assert done.returncode == Exit.VIOLATED, done.stderr
    assert results.read_text().splitlines()[0] == first
    told = json.loads((tmp_path / "x.json").read_text())
    assert {run["schedule"]: run["how"] for run in told["runs"]} == {"reboot1": "broken", "load1-reboot1": "held"}
    (found,) = told["found"]
    assert (found["claim"], found["schedules"], found["reproduced"]) == ("off-when-cut-short", ["reboot1"], True)
    assert told["left"] == 0
