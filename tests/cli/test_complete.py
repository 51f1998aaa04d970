"""Completion: what is offered, and that the shells offer it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pexpect
import pytest

from harness.cli import cli, complete

CONTEXT = click.Context(cli)
PARAMETER = click.Option(["--x"])


def offered(what: complete.Complete, incomplete: str) -> list[str]:
    return what(CONTEXT, PARAMETER, incomplete)


def test_engines_kernels_claims_and_steps() -> None:
    assert offered(complete.engines, "tcg") == ["tcg-svm", "tcg-vmx"]
    assert "debian:sid" in offered(complete.kernels, "debian:s")
    assert offered(complete.kernels, "gi") == ["git:"]
    assert "off-when-shutdown-returns" in offered(complete.words, "off")
    assert "suspend" in offered(complete.words, "sus")
    assert offered(complete.words, "no-such") == []


def test_scenarios_are_yaml_files_and_folders_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "races").mkdir()
    for name in ("reboot.yaml", "races/one.yaml", "claims.yaml", "readme.md", ".hidden.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert offered(complete.scenarios, "") == ["races/", "reboot.yaml"]
    assert offered(complete.scenarios, "races/") == ["races/one.yaml"]
    assert offered(complete.scenarios, f"{tmp_path}/re") == [f"{tmp_path}/reboot.yaml"]
    assert offered(complete.scenarios, "nowhere/") == []


def test_a_cache_that_cannot_be_read_offers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    (tmp_path / "kernels" / "0badf00d").mkdir(parents=True)
    (tmp_path / "kernels" / "0badf00d" / "meta.json").write_text("{")
    assert offered(complete.kernels, "debian:") == []


def environment() -> dict[str, str]:
    """With this project's harness first, and a prompt that can be waited for."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PS1": "READY> ", "TERM": "dumb", "INPUTRC": "/dev/null"}


def in_bash(typed: str, folder: Path) -> str:
    """What bash makes of `typed` and a Tab."""
    shell = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "-i"], env=environment(), cwd=str(folder), encoding="utf-8", timeout=60
    )
    shell.expect("READY> ")
    shell.sendline('bind "set enable-bracketed-paste off"; eval "$(harness completion bash)"; echo LOADED')
    shell.expect("\nLOADED.*READY> ")
    shell.send(f"{typed}\t")
    # Once the Tab is done with, the line is not run but said.
    shell.sendcontrol("a")
    shell.send("echo ':")
    shell.sendcontrol("e")
    shell.send(":'\r")
    shell.expect("\n:")
    shell.expect(":\r")
    text = shell.before
    shell.close(force=True)
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("harness expl", "harness expl"),  # explore and explain
        ("harness run --dry", "harness run --dry-run "),
        ("harness run --engine tcg-s", "harness run --engine tcg-svm "),
        ("harness run --kernel debian:si", "harness run --kernel debian:sid "),
        ("harness run --kernel debian-so", "harness run --kernel debian-source:"),
        ("harness run races/reb", "harness run races/reboot-x.yaml "),
        ("harness shell rac", "harness shell races/"),
    ],
)
def test_bash_completes(typed: str, completed: str, tmp_path: Path) -> None:
    (tmp_path / "races").mkdir()
    (tmp_path / "races" / "reboot-x.yaml").touch()
    assert in_bash(typed, tmp_path) == completed


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
def test_zsh_completes(tmp_path: Path) -> None:
    shell = pexpect.spawn("zsh", ["-f", "-i"], env=environment(), cwd=str(tmp_path), encoding="utf-8", timeout=60)
    shell.sendline('autoload -U compinit && compinit -D; eval "$(harness completion zsh)"; echo LOADED')
    shell.expect("\nLOADED")
    shell.send("echo harness; harness run --kernel debian:si\t")
    shell.expect("debian:sid")
    shell.close(force=True)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_is_one_that_the_shell_can_read(shell: str) -> None:
    script = subprocess.run(
        [Path(sys.executable).parent / "harness", "completion", shell], capture_output=True, text=True, check=True
    ).stdout
    assert "_HARNESS_COMPLETE" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, text=True, check=True)
