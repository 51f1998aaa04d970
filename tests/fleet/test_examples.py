"""The examples of docs/examples/nightly are what their programs take."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from harness.cli import cli
from harness.fleet.matrix import load_matrix
from harness.fleet.plan import make_plan
from harness.machine.engine import by_name
from harness.paths import PROJECT

EXAMPLES = PROJECT / "docs" / "examples" / "nightly"
UNITS = sorted([*EXAMPLES.glob("*.service"), *EXAMPLES.glob("*.timer")])
INSTALLED = "/srv/virt-ordering-harness"


def accepted(line: str) -> None:
    """Has click parse a command line as it would run it."""
    _, name, *words = shlex.split(line)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_context(name, words, parent=click.Context(cli))


def test_the_matrix_is_one() -> None:
    matrix = load_matrix(EXAMPLES / "nightly.yaml")
    plan = make_plan(matrix, lambda name, machine: by_name(name, ""))
    assert (len(plan.cells), plan.excluded) == (6, 2)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(INSTALLED, str(PROJECT)))
    argv = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    said = [line for line in result.stderr.splitlines() if "harness-nightly" in line]
    assert said == []
    (tmp_path / UNITS[0].name).write_text(UNITS[0].read_text().replace("Type=exec", "Type=whenever"))
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert "harness-nightly-resume.service:8: Failed to parse service type" in result.stderr, "it says so"


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.stem)
def test_units_call_the_harness_as_it_is(unit: Path) -> None:
    [line] = [line.partition("=")[2] for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    assert line.startswith(f"{INSTALLED}/.venv/bin/harness ")
    accepted(line)


def test_the_workflow_is_one() -> None:
    workflow: dict[Any, Any] = yaml.safe_load((EXAMPLES / "github-nightly.yml").read_text())
    assert workflow[True]["schedule"][0]["cron"] == "0 2 * * *", "YAML 1.1, which PyYAML reads, takes `on` for true"
    [job] = workflow["jobs"].values()
    assert job["container"] == "debian:trixie"
    [run] = [step["run"] for step in job["steps"] if "harness matrix" in step.get("run", "")]
    accepted(run)
    cached = next(step for step in job["steps"] if step.get("uses", "").startswith("actions/cache@"))
    assert "nightly.sqlite" in cached["with"]["path"], "the results of one night are there in the next"
