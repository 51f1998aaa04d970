"""`harness doctor` as a program."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.doctor import doctor
from harness.errors import UsageError


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
