"""How long it takes to let a task go on, have it come to a point a few instructions later, and hold it there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.bench.runs import confirmed
from harness.bench.setup import KERNEL, Setup
from harness.deadline import Deadline
from harness.paths import runs_in
from harness.run import Job
from harness.scenario.load import load_scenario

ROUND_TRIP = "hold round trip: released, and held at the next point"

# kvm_enable_virtualization() takes a mutex, counts, and calls __cpuhp_setup_state(): virt/kvm/kvm_main.c of 6.12.
_SCENARIO = f"""\
title: two holds, one after the other
claims: [{{id: held, text: A task is held at two points., source: harness/bench/holds.py}}]
kernels: ["{KERNEL}"]
actors:
  loader: {{load: kvm_vendor, cpu: 1}}
points:
  first: {{function: kvm_enable_virtualization, actor: loader}}
  second: {{function: __cpuhp_setup_state, actor: loader, when: {{"+0(%si):string": "kvm/cpu:online"}}}}
steps:
  - start: loader
  - hold: first
    within: 60s
  - release: first
  - hold: second
    within: 60s
  - release: second
  - until: loader.exit
    within: 60s
expect:
  - order: [first.held, first.released, second.held, second.released]
"""


@dataclass
class HoldRoundTrip:
    """By what holds on the engine: QEMU's gdbstub, or the emulated platform's plugin."""

    setup: Setup
    name = ROUND_TRIP

    def prepare(self, deadline: Deadline) -> None:
        """Runs it once: that makes the snapshot, and fills the caches."""
        self.run(deadline)

    def run(self, deadline: Deadline) -> Mapping[str, float]:
        with tempfile.TemporaryDirectory(dir=self.setup.scratch) as name, runs_in(Path(name)):
            file = Path(name) / "holds.yaml"
            file.write_text(_SCENARIO)
            result = confirmed(Job(load_scenario(file), KERNEL, self.setup.engine, self.setup.qemu), file.name)
            first, second = json.loads((result.folder / "run.json").read_text())["holds"]
        return {self.name: second["at"] - first["ended"]}
