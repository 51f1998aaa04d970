"""A person at a guest, on a real terminal: kept runs, visits, the shell, and a dump with drgn."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from harness.paths import PROJECT

HARNESS = str(Path(sys.executable).parent / "harness")
EXAMPLE = PROJECT / "docs" / "examples" / "virt_state.py"
LEAVE = "\x1d"

SCENARIO = """\
title: KVM with a CPU off
claims: [{id: own, text: t, source: s}]
kernels: [debian:6.12]
steps:
  - load: kvm_vendor
  - offline: 3
  - sample: loaded
expect:
  - virt: {at: loaded, on: none}        # it is on: violated
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a scenario; runs are made in it, and doors where their paths are short."""
    (tmp_path / "off.yaml").write_text(SCENARIO)
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("TERM", "xterm")
    with tempfile.TemporaryDirectory() as doors:
        monkeypatch.setenv("XDG_RUNTIME_DIR", doors)
        yield tmp_path


@contextlib.contextmanager
def terminal(*words: str, folder: Path) -> Iterator[pexpect.spawn[str]]:
    """The harness on a terminal of its own, which hangs up in the end."""
    child = pexpect.spawn(
        HARNESS, list(words), cwd=str(folder), encoding="utf-8", timeout=240, dimensions=(50, 200), echo=False
    )
    try:
        yield child
    finally:
        child.close(force=True)


def harness(*words: str, typed: str = "") -> str:
    done = subprocess.run([HARNESS, *words], input=typed, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def alive(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.boot
def test_a_run_that_is_kept_can_be_looked_at_in_every_way_until_it_is_stopped(folder: Path) -> None:
    options = ("--pause-on", "violated", "--engine", "tcg-svm")
    with terminal("run", "off.yaml", *options, folder=folder) as kept:
        kept.expect(r"(\S+-off-debian-6.12-tcg-svm) is kept \(violated\), running; harness \d+, QEMU (\d+)")
        assert isinstance(kept.match, re.Match)
        name, qemu = kept.match[1], kept.match[2]
        kept.expect(r"gdb +(gdb \S+ -ex '[^']*')")
        gdb = shlex.split(kept.match[1])
        kept.expect("kept for inspection")
        assert f"{name}  kept (violated), running" in harness("attach")
        assert alive(qemu)

        assert harness("attach", name, "--ssh", "--", "cat /sys/devices/system/cpu/online").strip() == "0-2"
        assert "VM status: running" in harness("attach", name, "--hmp", typed="info status\n")
        assert '"QMP"' in harness("attach", name, "--qmp", typed='{"execute": "qmp_capabilities"}\n')
        with terminal("attach", name, folder=folder) as console:
            console.expect("leaves")
            console.send("echo $((6*7))\r")
            console.expect("\n42\r")
            console.send(LEAVE)
            console.expect(pexpect.EOF)
        _look_at_a_dump(name, folder)
        if shutil.which("gdb"):
            asked = [gdb[0], "-nx", "-batch", *gdb[1:], "-ex", "info registers rip", "-ex", "info symbol $rip"]
            told = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
            assert re.search(r"rip +0xffffffff8\w+", told.stdout), told.stdout + told.stderr

        with terminal("stop", name, folder=folder) as stop:
            kept.expect("own +.*violated")
            kept.expect(pexpect.EOF)
            stop.expect(pexpect.EOF)
        kept.close()
        assert kept.exitstatus == 1
        assert not alive(qemu)
    assert harness("attach") == ""


def _look_at_a_dump(name: str, folder: Path) -> None:
    """What drgn says of the memory is what KVM did: enabled where a CPU is online, and the sample agrees."""
    harness("attach", name, "--dump", str(folder / "memory.elf"))
    words = [sys.executable, str(EXAMPLE), str(folder / "runs" / name), str(folder / "memory.elf")]
    told = subprocess.run(words, capture_output=True, text=True, timeout=240, check=True).stdout
    rows = [line.split() for line in told.splitlines() if line.strip()[:1].isdigit()]
    on, off = ["yes", "yes", "-", "no", "no", "yes"], ["no", "no", "-", "no", "no", "no"]
    assert rows == [["0", *on], ["1", *on], ["2", *on], ["3", *off]], told


@pytest.mark.boot
def test_the_shell_is_a_console_that_others_can_share_and_ctrl_c_belongs_to_the_guest(folder: Path) -> None:
    with terminal("shell", "off.yaml", "--engine", "tcg-svm", folder=folder) as shell:
        shell.expect(r"shell-\S+: Ctrl-\] ends it")
        shell.expect(r"(ssh -i .*root@127.0.0.1)")
        assert isinstance(shell.match, re.Match)
        ssh = shlex.split(shell.match[1])
        shell.expect("harness: ready")
        shell.expect("guest#")
        shell.send("sleep 1000\r")
        shell.expect("sleep 1000")
        shell.send("\x03")
        shell.expect("guest#")
        told = subprocess.run([*ssh, "uname -r"], capture_output=True, text=True, timeout=120, check=True).stdout
        assert told.startswith("6.12.")
        assert len(harness("attach").splitlines()) == 1
        shell.send(LEAVE)
        shell.expect(pexpect.EOF)
        shell.close()
        assert shell.exitstatus == 0
    assert harness("attach") == ""
    gone = subprocess.run([*ssh, "true"], capture_output=True, text=True, timeout=120, check=False)
    assert "refused" in gone.stderr


def test_without_a_scenario_or_a_kernel_there_is_no_machine(folder: Path) -> None:
    done = subprocess.run([HARNESS, "shell"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected: a scenario, or --kernel" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "off.yaml", "--keep", "-j2"], "a run that waits for you runs alone"),
        (["run", "off.yaml", "-v", "-q"], "-q and -v cannot go together"),
        (["attach", "nothing"], "no live run is called 'nothing'"),
        (["stop", "nothing"], "no live run is called 'nothing'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_boots(words: list[str], said: str, folder: Path) -> None:
    done = subprocess.run([HARNESS, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not (folder / "runs").exists()
