"""What travels to a worker and back: the same kernel comes out of it, and whole folders."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import HostFault, NotExercised
from harness.fleet.cell import CellRun
from harness.fleet.frozen import freeze
from harness.fleet.parcel import Delivery, Parcel, deliver
from harness.judge.record import load_record
from harness.kernels import BuildOptions
from harness.report.result import RunResult
from harness.scenario.load import load_scenario
from tests.fleet.site import RUNS, Site, replay

PATCH = "--- a/init/main.c\n+++ b/init/main.c\n@@ -1 +1 @@\n-valid: one\n+valid: patched\n"


@pytest.fixture
def run(site: Site) -> CellRun:
    """On a patched kernel with a fragment, built here."""
    patch, fragment = site.folder / "my.patch", site.folder / "my.config"
    patch.write_text(PATCH)
    fragment.write_text("CONFIG_MINE=y\n")
    site.matrix()
    kernel = freeze("master", f"git:{site.repository}@master", BuildOptions((patch,), (str(fragment),)))
    kernel = replace(kernel, key=kernel.resolve(Deadline.after(60, "a test")).key)
    scenario = load_scenario(site.folder / "scenarios" / "load-0.yaml")
    return CellRun(1, 1, scenario, kernel, "tcg-svm", 60.0, 60.0, 1, site.folder / "runs")


def test_a_worker_makes_the_same_kernel_of_what_it_gets(
    run: CellRun, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parcel = Parcel.of(run)
    for file in ("my.patch", "my.config"):
        (site.folder / file).unlink()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "other-cache"))
    with parcel.unpacked() as there:
        kernel = there.kernel.resolve(Deadline.after(60, "a test"))
        assert kernel.image.read_text() == "valid: patched\n"
        assert kernel.config["CONFIG_MINE"] == "y"
        assert kernel.key == run.kernel.key
        assert there.runs != run.runs
    assert not there.runs.exists(), "nothing is left"


def test_a_folder_comes_back_whole_and_beside_another_of_its_name(run: CellRun) -> None:
    delivery = deliver(replay, Parcel.of(run))
    assert isinstance(delivery.outcome, RunResult)
    assert not delivery.outcome.folder.exists()
    first, second = (delivery.unpack(run.runs) for _ in range(2))
    assert isinstance(first, RunResult) and isinstance(second, RunResult)
    assert (first.folder.parent, second.folder.name) == (run.runs, f"{first.folder.name}.2")
    for result in (first, second):
        assert load_record(result.folder).name == "load-unload"
        assert {file.name for file in result.folder.iterdir()} == {file.name for file in RUNS["green"].iterdir()}
    assert [path for path in run.runs.iterdir() if path.name.startswith((".", "lab-"))] == []


@pytest.mark.parametrize("damage", ["cut", "outside", "link", "empty"])
def test_what_does_not_arrive_whole_is_a_fault_of_the_lab_s(run: CellRun, damage: str) -> None:
    delivery = deliver(replay, Parcel.of(run))
    assert isinstance(delivery.outcome, RunResult)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("../../escaped" if damage == "outside" else f"{delivery.outcome.folder.name}/link")
        if damage == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        if damage != "empty":
            tar.addfile(member)
    archive = delivery.archive[:2000] if damage == "cut" else buffer.getvalue()
    with pytest.raises(HostFault, match="did not arrive whole"):
        replace(delivery, archive=archive).unpack(run.runs)
    assert not (run.runs.parent.parent / "escaped").exists()
    assert list(run.runs.iterdir()) == [], "nothing is left"


def test_errors_come_back_as_they_are(run: CellRun, site: Site) -> None:
    site.script(master="fault")
    outcome = deliver(replay, Parcel.of(run)).outcome
    assert isinstance(outcome, HostFault)
    assert outcome.what == "the network is away"
    error = NotExercised("not here")
    assert Delivery(error).unpack(run.runs) is error


def test_a_kernel_that_comes_out_otherwise_at_a_worker_is_refused(run: CellRun) -> None:
    elsewhere = replace(run, kernel=replace(run.kernel, key="0" * 16))
    outcome = deliver(replay, Parcel.of(elsewhere)).outcome
    assert isinstance(outcome, HostFault)
    assert "no longer what it was when the night began" in outcome.what


def test_a_worker_without_the_repository_says_so(run: CellRun, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(site.folder / "other-cache"))
    parcel = Parcel.of(run)
    site.repository.rename(site.folder / "elsewhere")
    outcome = deliver(replay, parcel).outcome
    assert isinstance(outcome, HostFault), "no mistake of the matrix's"
    assert "master cannot be made on" in outcome.what
    assert "is not a directory" in outcome.found
