"""A lab of several workers: who gets what, what becomes of a job whose worker is killed, and what comes back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import Exit
from harness.fleet.lab import LabPool
from harness.fleet.matrix import load_matrix
from harness.fleet.night import begin, nights_of
from harness.fleet.nights import NightCell
from harness.judge.record import load_record
from tests.fleet.labs import Lab, lab
from tests.fleet.site import Site, replay


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three workers; one of them has the emulated platform."""
    with lab(tmp_path_factory.mktemp("lab"), ["tcg", "tcg", "tcg,tdx"]) as running:
        yield running


def until(seen: Callable[[], bool], seconds: float = 120.0) -> None:
    limit = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < limit
        time.sleep(0.05)


def ready(running: Lab, patience_s: float = 60.0) -> LabPool:
    pool = LabPool(running.address, patience_s)
    until(lambda: len(pool.workers()) == len(running.workers))
    return pool


def run(path: Path, pool: LabPool) -> list[NightCell]:
    matrix = load_matrix(path)
    with nights_of(matrix) as nights:
        night = begin(matrix, nights, pool)
        night.run(replay)
        return nights.cells(night.night)


def exits(cell: NightCell) -> list[Exit]:
    return [attempt.exit for attempt in cell.attempts]


def test_a_job_whose_worker_is_killed_is_done_by_another_and_recorded_once(site: Site, three: Lab) -> None:
    """Also: three work at a time, run folders come back whole, and nothing is left of them at the workers."""
    site.script(master="pid slow slow")
    with ready(three) as pool:
        killed: list[int] = []

        def kill_one() -> None:
            until(lambda: len(site.pids()) >= 1)
            killed.append(site.pids()[0])
            os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        cells = run(site.matrix(scenarios=4), pool)
        killer.join()
    assert killed[0] in three.workers
    assert three.workers.pop(killed[0]).wait() == -signal.SIGKILL
    assert [exits(cell) for cell in cells] == [[Exit.CONFIRMED]] * 4
    assert len(set(site.pids())) >= 2
    begun = [line for line in site.log if line.startswith("begin")]
    assert len(begun) == 5, "one was begun twice, and recorded once"
    for cell in cells:
        folder = Path(cell.attempts[0].folder)
        assert folder.parent == site.folder / "runs" / "nightly-1"
        assert load_record(folder).name == "load-unload"
    assert len(list((three.folder / "runs").iterdir())) <= 1, "only what the killed one had"
