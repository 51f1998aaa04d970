"""The usual way to look for a race: do both things at once, again and again, after random delays.

    python -m harness.bench.luck --kernel "debian:6.12 +check-before-register" --tries 100 -j2

Each try starts from the snapshot of the booted guest, loads KVM's vendor module, and does `reboot -f` after a delay
that is drawn evenly from the time that the load takes here. It counts how often virtualization was on at the reset
although the load had come to its end, which is what a directed schedule shows in one run; and how often the reset
came before the load's end, with virtualization on or off.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from harness import progress
from harness.guest.outcome import UNFINISHED
from harness.judge.record import load_record
from harness.kernels import BuildOptions
from harness.machine.auto import Tools
from harness.machine.engine import Engine
from harness.machine.toolchain import Qemu
from harness.mutants.named import named_kernel
from harness.report.result import RunResult
from harness.run import Job, run_job
from harness.run.batch import run_jobs
from harness.scenario.load import load_scenario
from harness.scenario.machine import MachineSection

_SCENARIO = """\
title: a load, and reboot -f {delay} us later
claims: [{{id: off, text: No CPU has virtualization on at the reset., source: harness bench luck}}]
kernels: ["{kernel}"]
machine: {{virt: {virt}}}
actors:
  load: {{load: kvm_vendor, cpu: 1}}
steps:
  - start: load
  - run: (usleep {delay}; reboot -f) >/dev/null 2>&1 &
  - until: reset
    within: 120s
expect:
  - virt: {{at: reset, on: none}}
"""

_ALONE = """\
title: how long a load takes
claims: [{{id: loads, text: The load succeeds., source: harness bench luck}}]
kernels: ["{kernel}"]
machine: {{virt: {virt}}}
actors:
  load: {{load: kvm_vendor, cpu: 1}}
steps:
  - start: load
  - until: load.exit
expect:
  - exit: {{load: OK}}
"""

_MEASUREMENTS = 3


@dataclass(frozen=True)
class Bench:
    """What is tried, and where its scenarios are written."""

    kernel: str
    spec: str
    options: BuildOptions
    engine: Engine
    qemu: Qemu
    folder: Path

    def job(self, name: str, template: str, delay: int = 0) -> Job:
        path = self.folder / f"{name}.yaml"
        path.write_text(template.format(kernel=self.kernel, virt=self.engine.extension.name, delay=delay))
        return Job(load_scenario(path), self.spec, self.engine, self.qemu, self.options)

    def load_seconds(self) -> float:
        """How long the load takes in the guest: the longest of a few times."""
        records = (load_record(run_job(self.job("alone", _ALONE)).folder) for _ in range(_MEASUREMENTS))
        return max(record.outcomes["load"].seconds for record in records)

    def tries(self, count: int, longest: float, jobs: int) -> Iterator[RunResult]:
        """So many tries, each with a delay of up to `longest` seconds."""
        delays = (random.randrange(int(longest * 1e6)) for _ in range(count))
        chosen = [self.job(f"try{number}", _SCENARIO, delay) for number, delay in enumerate(delays, start=1)]
        for _, result in run_jobs(chosen, jobs):
            yield result


def what_happened(result: RunResult) -> str:
    """A try in a few words: whether the load came to its end before the reset, and whether virtualization was on."""
    record = load_record(result.folder)
    sample = record.samples.get("reset")
    if sample is None:
        return "no reset"
    on = "on" if any(sample.virt.values()) else "off"
    load = record.outcomes.get("load")
    return f"load cut short, {on}" if load is None or load.result == UNFINISHED else f"load ended, {on}"


@click.command()
@click.option("--kernel", default="debian:6.12", show_default=True, metavar="K", help='Also "SPEC +MUTANT".')
@click.option("--engine", default="tcg-vmx", show_default=True)
@click.option("--tries", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("-j", "--jobs", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=1, show_default=True, help="Of the delays.")
def main(kernel: str, engine: str, tries: int, jobs: int, seed: int) -> None:
    """Load and reboot at random, and count what happens; one line of JSON."""
    random.seed(seed)
    tools = Tools(engine)
    chosen = tools.engine(MachineSection())
    spec, options = named_kernel(kernel)
    with tempfile.TemporaryDirectory(prefix="luck.") as folder:
        bench = Bench(kernel, spec, options, chosen, tools.qemu, Path(folder))
        longest = bench.load_seconds()
        counts: Counter[str] = Counter()
        seconds: list[float] = []
        with progress.counter(f"luck on {kernel}") as show:
            for result in bench.tries(tries, longest, jobs):
                counts[what_happened(result)] += 1
                seconds.append(result.seconds)
                show(_said(counts))
    print(json.dumps(_summary(kernel, longest, counts, seconds)))


def _said(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def _summary(kernel: str, longest: float, counts: Counter[str], seconds: Sequence[float]) -> dict[str, object]:
    return {
        "kernel": kernel,
        "longest_delay_s": round(longest, 2),
        "tries": len(seconds),
        "median_s": round(statistics.median(seconds), 2) if seconds else None,
        **dict(sorted(counts.items())),
    }


if __name__ == "__main__":
    main()
