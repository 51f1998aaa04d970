"""Bad input to `harness explore`: exit 2, and nothing was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_run import harness


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["load"], "two or three different activities"),
        (["load", "rebot"], "unknown activity 'rebot'"),
        (["load", "reboot", "--points", "load"], "gives no points"),
        (["load", "reboot", "--points", "vm=kvm_init"], "speaks of vm, which is not explored"),
        (["load", "reboot", "--engine", "tcg-arm"], "unknown engine 'tcg-arm'"),
        (["--resume", "."], "is not the folder of an exploration"),
    ],
)
def test_exit_2_and_nothing_made(tmp_path: Path, words: list[str], message: str) -> None:
    done = harness(tmp_path, "explore", *words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    done = harness(tmp_path, "explore", "load", "reboot", "--engine", "tcg-svm", "--dir", "there")
    assert done.returncode == 2 and "harness explore --resume there" in done.stderr
