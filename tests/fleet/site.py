"""A place to run nights in: a small repository as kernel, scenarios of recorded runs, and those as what comes out.

A run of a cell here is the replay of a recorded one: its folder is copied and judged, as that of a run that ended.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cache import disk_full_is_a_host_fault
from harness.deadline import Deadline
from harness.errors import HarnessError, HostFault, UsageError
from harness.fleet.cell import CellRun, with_room
from harness.fleet.pool import Work
from harness.folder import RunFolder
from harness.judge.judge import judge
from harness.judge.record import load_record
from harness.machine.engine import Engine, by_name
from harness.paths import PROJECT, runs_in
from harness.report.result import RunResult
from harness.scenario.machine import MachineSection
from tests.kernels.trees import make_tree

RECORDED = PROJECT / "tests" / "recorded"
RUNS = {"green": RECORDED / "load-unload-6.12-confirmed", "red": RECORDED / "mutant-cpuhp-nocalls-violated"}


@dataclass(frozen=True)
class Site:
    """`script` says what a run of a kernel does, by its number; see `replay`."""

    folder: Path

    @property
    def repository(self) -> Path:
        return self.folder / "linux"

    def commit(self, text: str, message: str) -> str:
        """A commit of the kernel; `text` becomes its image."""
        (self.repository / "init/main.c").write_text(text)
        self.git("add", "-f", "Makefile", "Kconfig", "init")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        argv = ["git", *identity, "-C", str(self.repository), *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def matrix(self, text: str = "", *, scenarios: int = 1, branches: Sequence[str] = ("master",)) -> Path:
        """A matrix of branches and of so many equal scenarios; `text` is what else it says."""
        (self.folder / "scenarios").mkdir(exist_ok=True)
        for number in range(scenarios):
            shutil.copy(RUNS["green"] / "scenario.yaml", self.folder / "scenarios" / f"load-{number}.yaml")
        kernels = "".join(f"  - {{kernel: 'git:{self.repository}@{name}', name: {name}}}\n" for name in branches)
        path = self.folder / "nightly.yaml"
        path.write_text(f"kernels:\n{kernels}scenarios: [scenarios]\nengines: [tcg-svm]\nfree: 1\n{text}")
        return path

    def script(self, **kernels: Sequence[str] | str) -> None:
        (self.folder / "script.json").write_text(json.dumps(kernels))

    @property
    def log(self) -> list[str]:
        """`begin|end KERNEL SCENARIO NUMBER` of every run."""
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def pids(self) -> list[int]:
        """Who did runs, in the order in which they began."""
        path = self.folder / "pids"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def ended(self) -> list[str]:
        return sorted(line.removeprefix("end ") for line in self.log if line.startswith("end "))

    def night(self, matrix: Path, *options: str) -> subprocess.Popen[str]:
        """A process that runs a night with replays."""
        argv = [sys.executable, "-m", "tests.fleet.drive", str(matrix), *options]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=PROJECT)

    def wait_for(self, seen: Callable[[], bool], seconds: float = 120.0) -> None:
        limit = time.monotonic() + seconds
        while not seen():
            assert time.monotonic() < limit, self.log
            time.sleep(0.02)

    def begun(self) -> bool:
        return any(line.startswith("begin") for line in self.log)


class HerePool:
    """Runs cells one after the other in this process, which is quicker than starting others."""

    def choose(self, name: str, machine: MachineSection) -> Engine:
        return by_name(name, "")

    def run(
        self, work: Work, runs: Sequence[CellRun], given: Callable[[int], None]
    ) -> Iterator[tuple[int, RunResult | HarnessError]]:
        for index, run in enumerate(runs):
            given(index)
            try:
                yield index, work(run)
            except HarnessError as error:
                yield index, error


def make_site(folder: Path) -> Site:
    make_tree(folder / "linux")
    site = Site(folder)
    site.git("init", "-q", "-b", "master")
    site.commit("valid: one\n", "the first")
    site.script()
    return site


def replay(run: CellRun) -> RunResult:
    """What the script says that this run does: words of `_do`; whether the run is `red`, and QEMU was `broken`."""
    return with_room(run, lambda: _replay(run))


def _replay(run: CellRun) -> RunResult:
    run.kernel.resolve(Deadline.after(run.build_s, "a test"))
    site = run.scenario.path.parents[1]
    script: Mapping[str, Any] = json.loads((site / "script.json").read_text())
    said = script.get(run.kernel.name, "green")
    what = said if isinstance(said, str) else said[min(run.number, len(said)) - 1]
    name = f"{run.kernel.name} {run.scenario.name} {run.number}"
    _append(site / "log", f"begin {name}")
    for word in what.split():
        _do(word, site)
    result = _replayed(run, RUNS["red" if "red" in what else "green"], "broken" in what)
    _append(site / "log", f"end {name}")
    return result


def _do(word: str, site: Path) -> None:
    if word == "slow":
        time.sleep(1.0)
    elif word == "pid":  # of the worker: what does the job is its child
        _append(site / "pids", str(os.getppid()))
    elif word == "slay":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)  # this process goes with it
    elif word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "interrupt":
        raise KeyboardInterrupt
    elif word == "fill":
        disk = Path(os.environ["HARNESS_RUNS"]).parent
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - (900 << 10)))
    elif word == "fault":
        raise HostFault("the network is away")
    elif word == "unfit":
        raise UsageError("the kernel has no such function")


def _replayed(run: CellRun, recorded: Path, broken: bool) -> RunResult:
    with runs_in(run.runs):
        folder = RunFolder.create(run.scenario.name, run.kernel.name, run.engine).path
    with disk_full_is_a_host_fault(folder):  # as in `run_job`
        for file in recorded.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    if broken:
        meta = json.loads((folder / "run.json").read_text())
        meta["fault"] = {"type": "HostFault", "exit": 3, "text": "QEMU ended"}
        (folder / "run.json").write_text(json.dumps(meta))
    record = load_record(folder)
    return RunResult.of(record, judge(record), 0.5)


def _append(path: Path, line: str) -> None:
    """One write, so that lines of several processes stay whole."""
    with path.open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())
