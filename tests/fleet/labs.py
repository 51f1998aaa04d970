"""A lab on this host: a scheduler and workers as processes of their own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.paths import PROJECT

_WORKER = """
import sys
from harness.fleet.lab import serve
serve(sys.argv[1], sys.argv[2].split(","), 1)
"""


@dataclass
class Lab:
    """The scheduler at `address`, and its workers by pid."""

    folder: Path  # cache and runs of the workers' hosts
    address: str
    scheduler: subprocess.Popen[bytes]
    workers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    resources: dict[int, str] = field(default_factory=dict)

    def have(self, wanted: Sequence[str]) -> None:
        """Sees to it that there are exactly these workers."""
        alive = {pid: self.resources[pid] for pid, process in self.workers.items() if process.poll() is None}
        missing = list(wanted)
        for pid, resources in alive.items():
            if resources in missing:
                missing.remove(resources)
            else:
                self.workers[pid].kill()
        for resources in missing:
            self._start(resources)

    def _start(self, resources: str) -> None:
        """A worker that announces these, as `harness worker` does once it has proven them."""
        own = {"HARNESS_CACHE": str(self.folder / "cache"), "HARNESS_RUNS": str(self.folder / "runs")}
        argv = [sys.executable, "-c", _WORKER, self.address, resources]
        process = subprocess.Popen(argv, cwd=PROJECT, env={**os.environ, **own})
        self.workers[process.pid] = process
        self.resources[process.pid] = resources

    def end(self) -> None:
        for process in [*self.workers.values(), self.scheduler]:
            process.kill()
            process.wait()


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    limits = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    scheduler = subprocess.Popen([*argv, "--no-dashboard"], cwd=PROJECT, env={**os.environ, **limits})
    running = Lab(folder, f"tcp://127.0.0.1:{port}", scheduler)
    try:
        yield running
    finally:
        running.end()
