"""`harness doctor` as a program."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from harness.cli.doctor import doctor
from harness.errors import UsageError
from harness.machine import kvm
from harness.machine.kvm import Obstacle
from harness.run import confirmation


@pytest.mark.boot
@pytest.mark.network
def test_emulated_svm_as_table_and_as_json(tmp_path: Path) -> None:
    target = tmp_path / "doctor.json"
    result = CliRunner().invoke(doctor, ["--engine", "tcg-svm", "--json", str(target)], standalone_mode=False)
    assert result.exception is None
    assert "engine auto: tcg-svm" in result.output
    report = json.loads(target.read_text())
    assert report["usable"] is (result.return_value == 0)
    assert [(proof["engine"], proof["works"]) for proof in report["engines"]] == [("tcg-svm", True)]
    assert {"name", "level", "found", "advice"} == set(report["checks"][0])


def test_an_unknown_engine() -> None:
    result = CliRunner().invoke(doctor, ["--engine", "xen"], standalone_mode=False)
    assert isinstance(result.exception, UsageError)


@pytest.mark.network
def test_a_report_on_an_engine_that_does_not_work_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "look", lambda *_: Obstacle("busy", "a VM", "EBUSY", "unload it"))
    target = tmp_path / "report.txt"
    result = CliRunner().invoke(doctor, ["--engine", "kvm", "--confirm", str(target)], standalone_mode=False)
    assert result.exception is None
    assert result.return_value == 3
    assert "does not work on this host" in target.read_text()


@pytest.mark.network
def test_a_report_that_is_interrupted_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kvm, "look", lambda *_: Obstacle("busy", "a VM", "EBUSY", "unload it"))
    monkeypatch.setattr("harness.cli.doctor.confirming", interrupted)
    target = tmp_path / "report.txt"
    result = CliRunner().invoke(doctor, ["--engine", "kvm", "--confirm", str(target)], standalone_mode=False)
    assert isinstance(result.exception, click.Abort | KeyboardInterrupt | SystemExit)
    assert "No more runs\n------------\n\ninterrupted" in target.read_text()


def test_a_report_that_could_not_be_written_is_refused_before_anything_boots(tmp_path: Path) -> None:
    result = CliRunner().invoke(doctor, ["--confirm", str(tmp_path / "none" / "report.txt")], standalone_mode=False)
    assert isinstance(result.exception, UsageError)


@pytest.mark.boot
@pytest.mark.network
def test_a_report_has_the_verdicts_of_real_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "SCENARIOS", ("hotplug",))
    monkeypatch.setattr(confirmation, "KERNELS", ("debian:6.12",))
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    target = tmp_path / "report.txt"
    result = CliRunner().invoke(doctor, ["--engine", "tcg-svm", "--confirm", str(target)], standalone_mode=False)
    assert result.exception is None
    text = target.read_text()
    assert result.return_value == 0, text
    assert "hotplug on debian:6.12 tcg-svm" in text and "  confirmed: hotplug-follows" in text
    assert str(tmp_path) not in text
