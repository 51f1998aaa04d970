"""A lab of several workers: who gets what, what becomes of a job whose worker is killed, and what comes back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import Exit, HostFault
from harness.fleet.lab import LabPool
from harness.fleet.matrix import load_matrix
from harness.fleet.night import begin, nights_of
from harness.fleet.nights import NightCell
from harness.fleet.resources import resource
from harness.judge.record import load_record
from harness.machine.engine import ENGINES
from harness.scenario.machine import MachineSection, TdxSection
from tests.fleet.labs import Lab, lab
from tests.fleet.site import HerePool, Site, replay


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


def until(seen: Callable[[], bool]) -> None:
    deadline = Deadline.after(120, "this test")
    while not seen():
        deadline.check()
        deadline.pause(0.05)


def with_workers(hosts: Lab, *resources: str, patience_s: float = 60.0) -> LabPool:
    """The lab with exactly these workers; who is not there yet is started."""
    hosts.have(resources)
    pool = LabPool(hosts.address, patience_s)
    until(lambda: sorted(",".join(sorted(one)) for one in pool.workers()) == sorted(resources))
    return pool


def run(path: Path, pool: LabPool) -> list[NightCell]:
    matrix = load_matrix(path)
    with nights_of(matrix) as nights:
        night = begin(matrix, nights, pool)
        night.run(replay)
        return nights.cells(night.night)


def exits(cells: Sequence[NightCell]) -> list[list[Exit]]:
    return [[attempt.exit for attempt in cell.attempts] for cell in cells]


def test_a_job_whose_worker_is_killed_is_done_by_another_and_recorded_once(site: Site, hosts: Lab) -> None:
    """Also: run folders come back whole, and nothing is left of them at the workers."""
    site.script(master="pid slow slow")
    killed: list[int] = []

    def kill_the_first() -> None:
        until(lambda: site.pids() != [])
        killed.append(site.pids()[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    with with_workers(hosts, "tcg", "tcg", "tcg,tdx") as pool:
        killer.start()
        cells = run(site.matrix(scenarios=4), pool)
        killer.join()
    assert hosts.workers[killed[0]].wait() == -signal.SIGKILL
    assert exits(cells) == [[Exit.CONFIRMED]] * 4
    assert len(set(site.pids())) >= 2, "several workers were at it"
    begun = [line for line in site.log if line.startswith("begin")]
    assert (len(begun), len(set(begun))) == (5, 4), "one was begun twice, and is recorded once"
    folders = {Path(cell.attempts[0].folder) for cell in cells}
    assert len(folders) == 4
    for folder in folders:
        assert folder.parent == site.folder / "runs" / "nightly-1"
        assert load_record(folder).name == "load-unload"
    assert len(list((hosts.folder / "runs").iterdir())) <= 1, "only what the killed one had"
    builds = [path.read_text() for path in hosts.folder.glob("cache/trees/*/objects/builds")]
    assert builds == ["built\n"], "workers that share a cache build once"


def test_a_job_goes_to_a_worker_that_has_what_it_needs(site: Site, hosts: Lab) -> None:
    site.script(master="pid")
    path = site.matrix()
    path.write_text(path.read_text().replace("tcg-svm", "tcg-vmx"))
    with with_workers(hosts, "tcg", "tcg,tdx") as pool:
        assert exits(run(path, pool)) == [[Exit.CONFIRMED]]
        plain, tdx = MachineSection(), MachineSection(tdx=TdxSection())
        assert [pool.choose("auto", machine).name for machine in (plain, tdx)] == ["tcg-svm", "tcg-vmx"]
        assert pool.choose("kvm", MachineSection(virt="svm")).label == "kvm (svm)", "a worker may still come"
    [pid] = site.pids()
    assert hosts.resources[pid] == "tcg,tdx"


def test_what_nobody_has_is_not_exercised(site: Site, hosts: Lab) -> None:
    path = site.matrix("retry: 0\n")
    path.write_text(path.read_text().replace("[tcg-svm]", "[kvm]"))
    with with_workers(hosts, "tcg,tdx", patience_s=0.5) as pool:
        [cell] = run(path, pool)
    [attempt] = cell.attempts
    assert attempt.exit is Exit.NOT_EXERCISED
    assert "no worker of the lab announces kvm-" in attempt.fault
    assert "there is: tcg, tdx" in attempt.fault
    assert site.log == []


def test_a_job_that_kills_worker_after_worker_is_given_up(site: Site, hosts: Lab) -> None:
    """The scheduler of these tests gives up after one worker more."""
    site.script(master="pid slay")
    with with_workers(hosts, "tcg", "tcg,tdx") as pool:
        [cell] = run(site.matrix("retry: 0\n"), pool)
    [attempt] = cell.attempts
    assert attempt.exit is Exit.HARNESS_FAULT
    assert "died, one after the other" in attempt.fault
    assert len(set(site.pids())) == 2
    assert all(hosts.workers[pid].wait() == -signal.SIGKILL for pid in site.pids())


def test_without_a_scheduler_the_night_stays_unfinished_and_nobody_is_blamed(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site.script(master="pid slow slow slow slow slow slow")
    path = site.matrix(scenarios=2)
    with lab(tmp_path_factory.mktemp("short")) as short, with_workers(short, "tcg") as pool:

        def kill_the_scheduler() -> None:
            until(lambda: site.pids() != [])
            short.scheduler.kill()

        killer = threading.Thread(target=kill_the_scheduler)
        killer.start()
        with pytest.raises(HostFault, match=r"the scheduler at .* is gone"):
            run(path, pool)
        killer.join()
    with nights_of(load_matrix(path)) as nights:
        assert [night.state for night in nights.all()] == ["unfinished"]
        assert exits(nights.cells(1)) == [[], []]
        site.script()
        begin(load_matrix(path), nights, HerePool()).run(replay)
        assert exits(nights.cells(1)) == [[Exit.CONFIRMED]] * 2


def test_where_no_scheduler_answers() -> None:
    begun = time.monotonic()
    with pytest.raises(HostFault, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        LabPool("tcp://127.0.0.1:9", 1.0, connect_s=1.0)
    assert time.monotonic() - begun < 30
    with pytest.raises(HostFault, match="no Dask scheduler answers"):
        LabPool("nonsense://x", 1.0, connect_s=1.0)


def test_every_engine_has_a_resource() -> None:
    assert len({resource(engine) for engine in ENGINES}) == len(ENGINES)
