"""The usual way to look for a race: do both things at once, again and again, after random delays.

    python -m harness.bench.luck load --kernel "debian:6.12 +check-before-register" --tries 100 -j2

Each try starts from the snapshot of the booted guest, and loads KVM's vendor module (or creates the first VM) and
does `reboot -f`, one of them after a delay. The offset is drawn evenly from minus to plus the time that the load
takes here. Counted is how often virtualization was on at the reset although the load had come to its end, which is
what a directed schedule shows in one run; and how often the reset came before the load's end.
"""

from __future__ import annotations

import json
import random
import re
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from harness import progress
from harness.errors import HostFault
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

_DONE = "luck: done"

_SCENARIO = """\
title: what is done and reboot -f, {offset} us apart
claims: [{{id: off, text: No CPU has virtualization on at the reset., source: harness/bench/luck.py}}]
kernels: ["{kernel}"]
machine: {{virt: {virt}}}
steps:
{before}
  - run: >-
      (usleep {mine}; {command}; echo "{done}" > /dev/kmsg) > /dev/null 2>&1 &
      (usleep {reboots}; reboot -f) > /dev/null 2>&1 &
  - until: reset
    within: 120s
expect:
  - virt: {{at: reset, on: none}}
"""

_ALONE = """\
title: how long it takes alone
claims: [{{id: done, text: It is done., source: harness/bench/luck.py}}]
kernels: ["{kernel}"]
machine: {{virt: {virt}}}
steps:
{before}
  - run: >-
      read -r begin rest < /proc/uptime; {command}; read -r end rest < /proc/uptime;
      echo "luck: took $begin $end" > /dev/kmsg
    id: alone
expect:
  - exit: {{alone: OK}}
"""


@dataclass(frozen=True)
class Deed:
    """What is done beside the reboot: a command in the guest, and the steps before it."""

    command: str
    before: str = ""


# A VM lives as long as the process that made it; the reboot ends both.
_DEEDS = {
    "load": Deed("guestctl load {module}"),
    "vm": Deed(
        "guestctl vm --vcpus 0 --hold /run/luck > /run/luck.out & "
        "until read -r line < /run/luck.out; do usleep 1000; done",
        "  - load: kvm_vendor",
    ),
}

_MEASUREMENTS = 3


@dataclass(frozen=True)
class Bench:
    """What is tried, and where its scenarios are written."""

    deed: Deed
    kernel: str
    spec: str
    options: BuildOptions
    engine: Engine
    qemu: Qemu
    folder: Path

    def job(self, name: str, template: str, offset: int = 0) -> Job:
        """`offset`: by how many microseconds the deed comes after the reboot; before it, if negative."""
        extension = self.engine.extension
        text = template.format(
            kernel=self.kernel,
            virt=extension.name,
            before=self.deed.before,
            command=self.deed.command.format(module=extension.module),
            done=_DONE,
            offset=offset,
            mine=max(0, offset),
            reboots=max(0, -offset),
        )
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        return Job(load_scenario(path), self.spec, self.engine, self.qemu, self.options)

    def seconds_alone(self) -> float:
        """How long the deed takes in the guest: the longest of a few times, to 10 ms."""
        return max(self._seconds_alone() for _ in range(_MEASUREMENTS))

    def _seconds_alone(self) -> float:
        record = load_record(run_job(self.job("alone", _ALONE)).folder)
        took = next(filter(None, (re.search(r"luck: took (\S+) (\S+)", line) for line in record.console.lines)), None)
        if took is None:
            raise HostFault(f"it is not known how long it takes alone: {record.folder}")
        return max(0.02, float(took[2]) - float(took[1]))

    def tries(self, count: int, longest: float, jobs: int) -> Iterator[RunResult]:
        """So many tries, with offsets of up to `longest` seconds either way."""
        most = int(longest * 1e6)
        offsets = (random.randint(-most, most) for _ in range(count))
        chosen = [self.job(f"try{number}", _SCENARIO, offset) for number, offset in enumerate(offsets, start=1)]
        for _, result in run_jobs(chosen, jobs):
            yield result


def what_happened(result: RunResult) -> str:
    """A try in a few words: whether the deed was done before the reset, and whether virtualization was on then."""
    record = load_record(result.folder)
    sample = record.samples.get("reset")
    if sample is None:
        return "no reset"
    done = any(_DONE in line for line in record.console.lines)
    return f"{'done' if done else 'cut short'}, {'on' if any(sample.virt.values()) else 'off'}"


@click.command()
@click.argument("deed", type=click.Choice(list(_DEEDS)))
@click.option("--kernel", default="debian:6.12", show_default=True, metavar="K", help='Also "SPEC +MUTANT".')
@click.option("--engine", default="tcg-vmx", show_default=True)
@click.option("--tries", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("-j", "--jobs", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=1, show_default=True, help="Of the delays.")
def main(deed: str, kernel: str, engine: str, tries: int, jobs: int, seed: int) -> None:
    """Do something and reboot at random, and count what happens; one line of JSON."""
    random.seed(seed)
    tools = Tools(engine)
    chosen = tools.engine(MachineSection())
    spec, options = named_kernel(kernel)
    with tempfile.TemporaryDirectory(prefix="luck.") as folder:
        bench = Bench(_DEEDS[deed], kernel, spec, options, chosen, tools.qemu, Path(folder))
        longest = bench.seconds_alone()
        counts: Counter[str] = Counter()
        seconds: list[float] = []
        with progress.counter(f"luck on {kernel}") as show:
            for result in bench.tries(tries, longest, jobs):
                counts[what_happened(result)] += 1
                seconds.append(result.seconds)
                show(_said(counts))
    print(json.dumps(_summary(deed, kernel, longest, counts, seconds)))


def _said(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def _summary(
    deed: str, kernel: str, longest: float, counts: Counter[str], seconds: Sequence[float]
) -> dict[str, object]:
    return {
        "deed": deed,
        "kernel": kernel,
        "offsets_s": round(longest, 2),
        "tries": len(seconds),
        "median_s": round(statistics.median(seconds), 2) if seconds else None,
        **dict(sorted(counts.items())),
    }


if __name__ == "__main__":
    main()
