"""Doors of live runs: who is found, what is answered, and what is left when they are gone."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HostFault, UsageError
from harness.guest.session import Session
from harness.guest.ssh import Shell
from harness.images.keys import make_keys
from harness.judge.verdict import ClaimVerdict, Judgement, Verdict
from harness.machine.argv import BootFiles, MachineSpec
from harness.machine.engine import by_name
from harness.machine.machine import Machine
from harness.machine.toolchain import Qemu
from harness.paths import doors_dir
from harness.report.result import RunResult
from harness.run.door import door_where_possible, open_door
from harness.run.inspection import PauseOn, reason, set_apart
from harness.scenario.model import Claim, ClaimUse
from harness.visit import live_run, live_runs


@pytest.fixture(autouse=True)
def own_doors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Not pytest's folders: the path of a socket must be short."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """One whose machine was never started."""
    files = BootFiles(Path("/kernel"), Path("/initrd"))
    machine = Machine(MachineSpec(), by_name("tcg-svm", ""), Qemu(("qemu",), "11.1.3", "a test"), files, tmp_path)
    return Session(machine, machine.engine, Shell(machine, make_keys(tmp_path)))


def test_what_a_visitor_does_is_no_part_of_the_run(tmp_path: Path) -> None:
    """An oops by sysrq in a guest that was kept made `harness judge` call the run violated."""
    console = tmp_path / "console.log"
    console.write_text("the run\n")
    set_apart(console, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["console.log"]
    with console.open("a") as file:
        file.write("BUG: of somebody's\n")
    set_apart(console, 8)
    assert console.read_text() == "the run\n"
    assert (tmp_path / "console-kept.log").read_text() == "BUG: of somebody's\n"


def test_a_run_is_found_by_its_name_a_part_of_it_or_its_folder(session: Session) -> None:
    with open_door("20261123-demo-debian-6.1", session, str), open_door("20261123-demo-debian-6.12", session, str):
        assert [run.name for run in live_runs()] == ["20261123-demo-debian-6.1", "20261123-demo-debian-6.12"]
        assert live_run("demo-debian-6.12").name == "20261123-demo-debian-6.12"
        assert live_run("20261123-demo-debian-6.1").name == "20261123-demo-debian-6.1"  # the other begins so, too
        assert live_run("runs/20261123-demo-debian-6.12/").pid == os.getpid()
        with pytest.raises(UsageError, match="several live runs are called 'demo'"):
            live_run("demo")
        with pytest.raises(UsageError, match="no live run is called 'other'") as none:
            live_run("other")
        assert "20261123-demo-debian-6.1" in none.value.evidence
    assert live_runs() == []
    assert list(doors_dir().iterdir()) == []


def test_a_run_says_how_it_is(session: Session, tmp_path: Path) -> None:
    with open_door("demo", session, str):
        about = live_run("demo").ask("info")
    assert (about["state"], about["machine"], about["ssh"]) == ("running", "not started", [])
    assert about["folder"] == str(tmp_path)


@pytest.mark.parametrize("do", ["stop", "dump"])
def test_a_run_that_is_not_kept_is_left_alone(do: str, session: Session) -> None:
    with open_door("demo", session, str), pytest.raises(UsageError, match="demo is not kept"):
        live_run("demo").ask(do, path="/nowhere")


def test_what_is_not_understood_is_said(session: Session) -> None:
    with open_door("demo", session, str):
        visitor = live_run("demo")
        with pytest.raises(UsageError, match="not understood"):
            visitor.ask("dance")
        with pytest.raises(UsageError, match="not understood"):
            visitor.ask("socket")
        assert visitor.ask("info")["name"] == "demo"


def test_a_run_that_is_gone_is_said_to_be_over(session: Session) -> None:
    with open_door("demo", session, str):
        visitor = live_run("demo")
    with pytest.raises(HostFault, match="demo is over"):
        visitor.ask("info")


def test_what_a_dead_process_has_left_is_removed() -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    place = doors_dir() / f"{dead.pid}-1"
    place.mkdir(parents=True)
    (place / "run.json").write_text(json.dumps({"name": "demo", "pid": dead.pid, "since": 0.0}))
    assert live_runs() == []
    assert not place.exists()


def test_a_path_that_is_too_long_for_a_socket_is_refused(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with pytest.raises(UsageError, match="cannot make a socket"), open_door("demo", session, str):
        pass
    with door_where_possible("demo", session, str) as door:
        assert door is None
    assert list(doors_dir().iterdir()) == []
    assert "demo cannot be visited: cannot make a socket" in capsys.readouterr().err


def test_a_folder_of_another_user_is_not_used(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    doors_dir().mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(UsageError, match="another user's"), open_door("demo", session, str):
        pass


def test_a_runtime_folder_that_is_not_ours_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/another")
    assert doors_dir() == Path(tempfile.gettempdir()) / f"virt-ordering-harness-{os.getuid()}"


def result(*verdicts: Verdict, fault: str = "") -> RunResult:
    claims = [ClaimVerdict(ClaimUse(claim=Claim(id="own", text="t", source="s")), v, ()) for v in verdicts]
    judgement = Judgement(tuple(claims))
    return RunResult("s", "t", "k", "6.12", "tcg-svm", Path(), 1.0, judgement, fault)


@pytest.mark.parametrize(
    ("wanted", "verdicts", "fault", "why"),
    [
        (set(), [Verdict.VIOLATED], "", ""),
        ({"violated"}, [Verdict.CONFIRMED, Verdict.VIOLATED], "", "violated"),
        ({"violated"}, [Verdict.CONFIRMED], "", ""),
        ({"not-exercised"}, [Verdict.NOT_EXERCISED], "", "not exercised"),
        ({"not-exercised"}, [Verdict.VIOLATED], "", ""),
        ({"fault"}, [Verdict.NOT_EXERCISED], "QEMU died", "fault"),
        ({"fault"}, [Verdict.NOT_EXERCISED], "", ""),
        ({"end"}, [Verdict.CONFIRMED], "", "confirmed"),
        ({"end", "violated"}, [Verdict.VIOLATED, Verdict.CONFIRMED], "", "violated"),
    ],
)
def test_what_a_run_is_kept_for(wanted: set[PauseOn], verdicts: list[Verdict], fault: str, why: str) -> None:
    assert reason(frozenset(wanted), result(*verdicts, fault=fault)) == why
