"""Nights in processes that are killed, that run out of disk, that meet each other: nothing is lost or run twice."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cache import DiskFull
from harness.deadline import Deadline
from harness.errors import Exit, HostFault, ScenarioError, UsageError
from harness.fleet.frozen import freeze
from harness.fleet.matrix import Matrix, load_matrix
from harness.fleet.night import begin, nights_of, only_one, resume
from harness.fleet.nights import Night, NightCell
from harness.fleet.pool import LocalPool, Pool
from harness.judge.verdict import Verdict
from harness.kernels import BuildOptions
from tests.fleet.site import HerePool, Site, replay


def run(path: Path, *, new: bool = False, pool: Pool | None = None) -> list[NightCell]:
    """A night in this process; its cells."""
    matrix = load_matrix(path)
    with nights_of(matrix) as nights:
        night = begin(matrix, nights, pool or HerePool(), new=new)
        night.run(replay)
        return nights.cells(night.night)


def last_night(matrix: Matrix) -> tuple[Night, list[NightCell]]:
    with nights_of(matrix) as nights:
        night = nights.all()[-1]
        return night, nights.cells(night.id)


def recorded(path: Path) -> list[str]:
    """The scenarios of which a run is recorded."""
    if not path.with_suffix(".sqlite").exists():
        return []
    with nights_of(load_matrix(path)) as nights:
        return [
            Path(one.cell.scenario).name for night in nights.all() for one in nights.cells(night.id) if one.attempts
        ]


def exits(cell: NightCell) -> list[Exit]:
    return [attempt.exit for attempt in cell.attempts]


def test_every_cell_is_run_and_recorded_with_what_the_run_said(site: Site) -> None:
    [first, second] = run(site.matrix(scenarios=2))
    assert (first.cell.scenario, second.cell.scenario) == ("scenarios/load-0", "scenarios/load-1")
    [attempt] = first.attempts
    assert attempt.exit is Exit.CONFIRMED
    assert len(attempt.claims) == 5
    assert all(claim.verdict is Verdict.CONFIRMED and claim.declared for claim in attempt.claims)
    assert Path(attempt.folder).parent == site.folder / "runs" / "nightly-1"
    assert (Path(attempt.folder) / "events.jsonl").exists()


def test_what_is_not_as_declared_is_run_again_until_it_is(site: Site) -> None:
    site.script(master=["red", "green", "green"])
    [cell] = run(site.matrix("retry: 3\n"))
    assert exits(cell) == [Exit.VIOLATED, Exit.CONFIRMED]
    site.script(master="red")
    [cell] = run(site.matrix("retry: 2\n"), new=True)
    assert exits(cell) == [Exit.VIOLATED] * 3
    violated = [claim for claim in cell.attempts[0].claims if claim.verdict is Verdict.VIOLATED]
    assert all(claim.evidence and not claim.declared for claim in violated)


def test_repeats_are_all_run_and_retried_only_if_none_is_as_declared(site: Site) -> None:
    site.script(master=["red", "green", "red"])
    [cell] = run(site.matrix("repeat: 3\nretry: 5\n"))
    assert exits(cell) == [Exit.VIOLATED, Exit.CONFIRMED, Exit.VIOLATED]


def test_a_fault_of_the_harness_is_got_over_by_another_run(site: Site) -> None:
    site.script(master=["fault", "green"])
    [cell] = run(site.matrix())
    assert exits(cell) == [Exit.HARNESS_FAULT, Exit.CONFIRMED]
    fault = cell.attempts[0]
    assert fault.fault == "the network is away"
    assert {claim.verdict for claim in fault.claims} == {Verdict.HARNESS_FAULT}


def test_a_run_that_crashes_is_a_fault_of_its_own_cell(site: Site) -> None:
    site.script(master="die")
    [cell] = run(site.matrix("retry: 0\n"), pool=LocalPool(1))
    assert exits(cell) == [Exit.HARNESS_FAULT]
    assert "killed by SIGKILL" in cell.attempts[0].fault


def test_a_scenario_that_does_not_fit_a_kernel_is_not_run_again(site: Site) -> None:
    site.script(master="unfit")
    [cell] = run(site.matrix("retry: 2\n"))
    assert exits(cell) == [Exit.USAGE]
    assert {claim.verdict for claim in cell.attempts[0].claims} == {Verdict.NOT_EXERCISED}


def test_a_kernel_that_does_not_build_takes_only_its_own_cells_with_it(site: Site) -> None:
    site.git("branch", "good")
    site.commit("nonsense\n", "does not compile")
    cells = run(site.matrix(scenarios=2, branches=("master", "good")))
    broken = [cell for cell in cells if cell.cell.kernel == "master"]
    assert [exits(cell) for cell in cells if cell not in broken] == [[Exit.CONFIRMED]] * 2
    for cell in broken:
        [attempt] = cell.attempts
        assert attempt.exit is Exit.NOT_EXERCISED
        assert "does not compile" in attempt.fault
        assert "init/main.c:1: error: this does not compile" in attempt.fault, "the log"
        assert {claim.verdict for claim in attempt.claims} == {Verdict.NOT_EXERCISED}


def test_each_kernel_is_built_once(site: Site) -> None:
    run(site.matrix("repeat: 2\n", scenarios=3))
    [builds] = site.folder.glob("cache/trees/*/objects/builds")
    assert builds.read_text() == "built\n"


def test_a_branch_stays_its_commit_for_the_night(site: Site) -> None:
    first = site.git("rev-parse", "HEAD")
    matrix = load_matrix(site.matrix(scenarios=2))
    with nights_of(matrix) as nights:
        begin(matrix, nights, HerePool())
        second = site.commit("valid: two\n", "the second")
        night = begin(matrix, nights, HerePool())
        night.run(replay)
        assert [one.id for one in nights.all()] == [1]
        kernel = nights.kernels(1, {})["master"].frozen
        assert kernel.revision == first
        assert kernel.spec == f"git:{site.repository}@{first}"
        begin(matrix, nights, HerePool()).run(replay)
        assert nights.kernels(2, {})["master"].frozen.revision == second


def test_an_unknown_branch_is_told_at_its_line_and_begins_no_night(site: Site) -> None:
    path = site.matrix(branches=("master", "no-such-branch"))
    with pytest.raises(ScenarioError, match=r"nightly\.yaml:3: .*has no revision no-such-branch"):
        run(path)
    with nights_of(load_matrix(path)) as nights:
        assert nights.all() == []


def test_what_cannot_be_looked_up_now_is_a_fault_of_its_own_cells(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    path = site.matrix()
    path.write_text(path.read_text().replace("kernels:\n", "kernels:\n  - debian:sid\n"))
    away, here = run(path)
    assert (exits(away), exits(here)) == ([Exit.HARNESS_FAULT], [Exit.CONFIRMED])
    assert {claim.verdict for claim in away.attempts[0].claims} == {Verdict.HARNESS_FAULT}


def test_a_kernel_that_is_another_than_in_the_beginning_is_a_fault(site: Site) -> None:
    deadline = Deadline.after(60, "a test")
    spec = f"git:{site.repository}@master"
    frozen = freeze("master", spec, BuildOptions())
    built = replace(frozen, spec=spec, key=frozen.resolve(deadline).key)
    assert built.resolve(deadline).key == built.key
    site.commit("valid: two\n", "the second")
    with pytest.raises(HostFault, match="no longer what it was when the night began"):
        built.resolve(deadline)


# --- killed -------------------------------------------------------------------------------------------------------


def test_a_night_that_is_killed_goes_on_and_runs_nothing_twice(site: Site) -> None:
    site.script(master="slow")
    path = site.matrix("jobs: 2\n", scenarios=4)
    process = site.night(path)
    site.wait_for(lambda: recorded(path) != [])
    process.kill()
    process.communicate()
    done = recorded(path)
    assert 1 <= len(done) < 4
    _, cells = last_night(load_matrix(path))
    assert {1: 1} in [cell.starts for cell in cells], "what was killed is known to have been begun"
    site.script(master="green")
    cells = run(path)
    night, _ = last_night(load_matrix(path))
    assert (night.id, night.state, night.pid) == (1, "finished", os.getpid())
    assert [exits(cell) for cell in cells] == [[Exit.CONFIRMED]] * 4
    for name in done:
        assert site.log.count(f"begin master {name} 1") == 1, "what was recorded is not run again"


def test_a_night_that_is_killed_while_it_builds_goes_on(site: Site) -> None:
    makefile = site.repository / "Makefile"
    makefile.write_text(makefile.read_text().replace("SECONDS_TO_BUILD = 0", "SECONDS_TO_BUILD = 3"))
    site.commit("valid: slow\n", "a slow build")
    path = site.matrix()
    process = site.night(path)
    assert process.stdout is not None
    assert any("night 1: 1 cells" in line for line in iter(process.stdout.readline, ""))
    process.kill()
    process.communicate()
    [cell] = run(path)
    night, _ = last_night(load_matrix(path))
    assert (night.id, night.state, exits(cell)) == (1, "finished", [Exit.CONFIRMED])


def test_a_cell_that_takes_the_harness_down_each_time_is_given_up(site: Site) -> None:
    """What crashes the host would otherwise do so at each boot."""
    matrix = load_matrix(site.matrix("retry: 0\n", scenarios=2))
    with nights_of(matrix) as nights:
        night = begin(matrix, nights, HerePool())
        [deadly, other] = nights.cells(night.night)
        for _ in range(3):
            nights.start(deadly.id, 1)
        nights.start(other.id, 1)
        night.run(replay)
        [deadly, other] = nights.cells(night.night)
    assert (exits(deadly), exits(other)) == ([Exit.HARNESS_FAULT], [Exit.CONFIRMED])
    assert "died 3 times while this was run" in deadly.attempts[0].fault
    assert site.ended() == ["master load-1 1"]


def test_an_interrupt_is_held_against_nobody(site: Site) -> None:
    site.script(master="interrupt")
    path = site.matrix()
    with pytest.raises(KeyboardInterrupt):
        run(path)
    night, [cell] = last_night(load_matrix(path))
    assert (night.state, cell.starts, cell.attempts) == ("unfinished", {}, ())


def test_a_plan_that_has_changed_begins_a_new_night(site: Site) -> None:
    matrix = load_matrix(site.matrix())
    with nights_of(matrix) as nights:
        begin(matrix, nights, HerePool())
    other = load_matrix(site.matrix("repeat: 2\n"))
    with nights_of(other) as nights:
        with pytest.raises(UsageError, match="cannot be gone on with"):
            resume(other, nights, HerePool())
        begin(other, nights, HerePool()).run(replay)
        assert [night.state for night in nights.all()] == ["abandoned", "finished"]
        assert resume(other, nights, HerePool()) is None


# --- two at once --------------------------------------------------------------------------------------------------


def test_a_second_night_is_told_who_is_at_it(site: Site) -> None:
    matrix = load_matrix(site.matrix())
    with only_one(matrix), nights_of(matrix) as nights:
        begin(matrix, nights, HerePool())
        second = site.night(matrix.path)
        output, _ = second.communicate()
    assert second.returncode == int(Exit.USAGE)
    assert "another night is being run into" in output
    assert f"process {os.getpid()} on " in output
    assert "since 20" in output
    assert site.log == []


# --- a full disk --------------------------------------------------------------------------------------------------


@pytest.fixture
def on_small_disk(site: Site, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A matrix of several cells, with its database and its runs on the disk."""
    monkeypatch.setenv("HARNESS_RUNS", str(small_disk / "runs"))
    return site.matrix(f"results: {small_disk}/x.sqlite\n", scenarios=4)


def test_too_little_space_stops_the_night_before_a_run_and_the_rest_is_done_later(
    site: Site, on_small_disk: Path, small_disk: Path
) -> None:
    site.script(master="fill")
    with pytest.raises(DiskFull) as error:
        run(on_small_disk)
    assert "MiB are free, and 1 (`free`) must be before a run begins" in str(error.value)
    night, cells = last_night(load_matrix(on_small_disk))
    assert night.state == "unfinished"
    assert [exits(cell) for cell in cells] == [[Exit.CONFIRMED], [], [], []], "no cell is blamed for it"
    assert [cell.starts for cell in cells] == [{}] * 4
    (small_disk / "ballast").unlink()
    site.script()
    cells = run(on_small_disk)
    night, _ = last_night(load_matrix(on_small_disk))
    assert (night.id, night.state) == (1, "finished")
    assert [exits(cell) for cell in cells] == [[Exit.CONFIRMED]] * 4
    assert len(site.ended()) == len(set(site.ended())) == 4


def test_a_run_that_fails_for_want_of_room_says_nothing(site: Site, on_small_disk: Path, small_disk: Path) -> None:
    site.script(master="broken fill")
    with pytest.raises(DiskFull):
        run(on_small_disk)
    _, cells = last_night(load_matrix(on_small_disk))
    assert [exits(cell) for cell in cells] == [[]] * 4
    (small_disk / "ballast").unlink()
    site.script(master=["broken", "green"])
    assert [exits(cell) for cell in run(on_small_disk)] == [[Exit.HARNESS_FAULT, Exit.CONFIRMED]] * 4, "with room"


def test_a_disk_that_fills_up_in_a_run_stops_the_night_and_nothing_is_damaged(
    site: Site, on_small_disk: Path, small_disk: Path
) -> None:
    on_small_disk.write_text(on_small_disk.read_text().replace("free: 1\n", "free: 0\nrepeat: 20\n"))
    with pytest.raises(DiskFull, match="the disk is full"):
        run(on_small_disk)
    shutil.rmtree(small_disk / "runs")
    matrix = load_matrix(on_small_disk)
    with nights_of(matrix) as nights:
        assert nights.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    night, cells = last_night(matrix)
    done = [attempt for cell in cells for attempt in cell.attempts]
    assert night.state == "unfinished"
    assert 5 < len(done) < 80
    assert all(attempt.exit is Exit.CONFIRMED for attempt in done)
