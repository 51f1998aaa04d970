"""A run that goes on from its first steps says what a run from the booted guest says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HostFault
from harness.judge.record import load_record
from harness.machine.auto import Tools
from harness.report.result import RunResult
from harness.run import Job, run_job
from harness.run.prelude import PRELUDE, Prelude, Started
from harness.scenario.load import load_scenario

MADE = Prelude(
    steps=4,
    online=(0, 1),
    armed=("vendor_disable",),
    preemption="full",
    held=("load-1",),
    actors=(Started("load", 174, 1, (0, 1), 420),),
    modules={"kvm": "ffffffffc0000000 t kvm_init"},
    outcomes='{"id": "start"}\n',
    trace="line",
)

FIRST = """\
title: a load waits at its first point, and so does a reboot
claims: [{id: off, text: Virtualization is off at the reset., source: here}]
kernels: [debian:6.12]
machine: {virt: vmx}
trace: [vendor_disable]
actors:
  load: {load: kvm_vendor, cpu: 1}
  reboot: {reboot: force, cpu: 0}
points:
  at-enable: {function: kvm_enable_virtualization, actor: load}
  at-restart: {function: kernel_restart, actor: reboot}
steps:
  - start: load
  - hold: at-enable
    within: 60s
  - start: reboot
  - hold: at-restart
    within: 60s
"""
WAITING = FIRST + "expect:\n  - exit: {load: UNFINISHED, reboot: UNFINISHED}\n"
# The load ends before the reboot begins: four CPUs are enabled, and disabled by the shutdown.
WHOLE = (
    FIRST
    + """\
  - release: at-enable
  - until: load.exit
  - release: at-restart
  - until: reset
expect:
  - exit: {load: OK, reboot: OK}
  - virt: {at: reset, on: none}
  - count: {event: vendor_disable, per: cpu, is: 1}
"""
)


def test_it_comes_back_from_its_folder(tmp_path: Path) -> None:
    MADE.write(tmp_path)
    assert Prelude.read(tmp_path) == MADE


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(HostFault, match="has no first steps"):
        Prelude.read(tmp_path)


def said(result: RunResult) -> list[list[str]]:
    return [[found.text for found in claim.findings] for claim in result.judgement.claims]


@pytest.mark.boot
def test_the_same_is_said_with_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    tools = Tools("tcg-vmx")
    kept = tmp_path / "kept"
    kept.mkdir()

    def job(name: str, text: str) -> Job:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return Job(load_scenario(path), "debian:6.12", tools.engine(), tools.qemu)

    run_job(replace(job("first", WAITING), keep=kept))
    assert Prelude.read(kept).held == ("at-enable", "at-restart") and (kept / PRELUDE).exists()
    whole = job("whole", WHOLE)
    shortcut, long_way = run_job(replace(whole, prelude=kept)), run_job(whole)
    assert shortcut.exit == long_way.exit == 0
    assert said(shortcut) == said(long_way)
    record = load_record(shortcut.folder)
    # Held again at the same points, in the same tasks.
    assert {"at-enable", "at-restart"} <= {e.name for e in record.events if e.phase == "released"}
    # And again from the same folder: nothing of a run goes back into it.
    assert said(run_job(replace(whole, prelude=kept))) == said(long_way)
