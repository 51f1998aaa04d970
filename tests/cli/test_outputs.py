"""`--junit`, `--ktap`, `--json` and `--kcidb` of commands: refused early, and written whatever ends the batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli import cli
from harness.errors import Exit, UsageError
from tests.cli.test_run import GOOD, HARNESS
from tests.report.runs import FOLDERS, RECORDED

NOWHERE = GOOD.replace("debian:6.12", "git:/no/such/tree@HEAD")
SLOW = GOOD.replace(
    "  - load: kvm_vendor\n", "  - load: kvm_vendor\n  - run: touch /tmp/x; sleep 60\n    within: 2min\n"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))


def harness(*words: str) -> Result:
    return CliRunner().invoke(cli, words, standalone_mode=False, catch_exceptions=False)


def cases(path: Path) -> Sequence[ET.Element]:
    return list(ET.parse(path).getroot().iter("testcase"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--junit", "no/such/folder/x"], "cannot write no/such/folder/x"),
        (["--ktap", "."], "it is a folder"),
        (["--junit", "-", "--ktap", "-"], "--junit and --ktap cannot both go to -"),
        (["--json", "x", "--kcidb", "./x"], "--json and --kcidb cannot both go to ./x"),
        (["--kcidb", "x", "--kcidb-origin", "My Lab"], "is no origin for KCIDB"),
    ],
)
@pytest.mark.parametrize("command", ["run", "judge"])
def test_what_cannot_be_written_stops_before_anything_boots(command: str, words: list[str], message: str) -> None:
    Path("good.yaml").write_text(GOOD)
    what = "good.yaml" if command == "run" else str(FOLDERS[0])
    with pytest.raises(UsageError, match=message):
        harness(command, what, *words)
    assert [path.name for path in Path().iterdir()] == ["good.yaml"]


def test_all_formats_of_saved_runs_at_once() -> None:
    names = {"--junit": "r.xml", "--ktap": "r.ktap", "--json": "r.json", "--kcidb": "r.kcidb"}
    options = [word for pair in names.items() for word in pair]
    done = harness("judge", *map(str, FOLDERS), *options, "--kcidb-origin", "my_lab")
    assert done.return_value == Exit.VIOLATED
    assert sorted(path.name for path in Path().iterdir()) == sorted(names.values())
    assert len(json.loads(Path("r.json").read_text())) == len(FOLDERS)
    assert {test["origin"] for test in json.loads(Path("r.kcidb").read_text())["tests"]} == {"my_lab"}
    assert any(case.find("failure") is not None for case in cases(Path("r.xml")))


def test_one_format_on_stdout_is_all_that_is_there() -> None:
    done = harness("judge", str(RECORDED / "load-unload-6.12-confirmed"), "--ktap", "-")
    assert done.return_value == Exit.CONFIRMED
    assert done.stdout.startswith("KTAP version 1\n") and done.stdout.endswith(" tcg-svm\n")


@pytest.mark.network
def test_a_batch_that_ends_early_says_what_was_not_run() -> None:
    Path("nowhere.yaml").write_text(NOWHERE)
    words = ["--engine", "tcg-svm", "--repeat", "2", "--junit", "r.xml", "--ktap", "r.ktap"]
    with pytest.raises(UsageError):
        harness("run", "nowhere.yaml", *words)
    messages = [error.get("message", "") for case in cases(Path("r.xml")) for error in case.iter("error")]
    assert len(messages) == 2 and all(message.startswith("not run: ") for message in messages)
    assert "\n1..2\n" in Path("r.ktap").read_text()


@pytest.mark.boot
@pytest.mark.network
def test_an_interrupted_batch_leaves_its_results(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(SLOW)
    runs = tmp_path / "runs"
    words = ["run", "slow.yaml", "--engine", "tcg-svm", "--repeat", "2", "--junit", "r.xml", "--ktap", "r.ktap"]
    env = {**os.environ, "HARNESS_RUNS": str(runs)}
    with subprocess.Popen([HARNESS, *words], env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as batch:
        deadline = time.monotonic() + 300
        while not list(runs.glob("*/console.log")) and batch.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        batch.send_signal(signal.SIGINT)
        _, told = batch.communicate(timeout=120)
    assert batch.returncode == 130, told
    errors = [case.find("error") for case in cases(tmp_path / "r.xml")]
    assert [error.get("message") for error in errors if error is not None] == [
        "not run: the batch was interrupted"
    ] * 2
    assert not list(tmp_path.glob(".r.*"))
