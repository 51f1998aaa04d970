"""The scripts that stand before virtme-ng's QEMU, and what is said when virtme-ng does not answer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.bench import virtme
from harness.bench.setup import Setup
from harness.deadline import Deadline
from harness.errors import HostFault
from harness.kernels import Kernel

PLAIN = "file,id=console,path=/dev/null"


def qemu_words(console: Path, *words: str) -> list[str]:
    """What QEMU would get: printf in its place prints its words, one a line."""
    script = console.with_name("qemu")
    script.write_text(virtme._QEMU.format(console=console, qemu="printf '%s\\n'"))
    return subprocess.run(["sh", script, *words], capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_console_is_kept_and_every_other_word_left_alone(tmp_path: Path) -> None:
    words = ["-chardev", PLAIN, "-append", "a b  'c' $d", "-chardev", "file,id=other,path=/dev/null"]
    console = tmp_path / "console"
    expected = [word if word != PLAIN else f"file,id=console,path={console}" for word in words]
    assert qemu_words(console, *words) == expected


class ReleaseOnly(Setup):
    """With a kernel whose release alone matters."""

    kernel = Kernel("k", "6.12.0-test", Path("/boot/k"), {}, None)


@pytest.fixture
def subject(tmp_path: Path) -> virtme.Virtme:
    (tmp_path / "virtme").mkdir()
    subject = virtme.Virtme(ReleaseOnly(tmp_path))
    subject._environment = {}
    return subject


@pytest.mark.parametrize(
    "script",
    [
        "echo 6.12.0-test",
        "printf 'booting\\r\\n6.12.0-test\\r\\n' >{console}; exit 255",  # a host without udev
    ],
)
def test_the_release_is_the_proof(subject: virtme.Virtme, script: str) -> None:
    subject._argv = ["sh", "-c", script.format(console=subject._console)]
    assert subject.run(Deadline.after(10, "this test"))[virtme.VIRTME] > 0


@pytest.mark.parametrize("script", ["exit 0", "echo Linux version 6.12.0-test; echo panic; exit 255"])
def test_without_it_there_is_no_figure(subject: virtme.Virtme, script: str) -> None:
    subject._argv = ["sh", "-c", script]
    subject._console.write_text("6.12.0-test\n")  # of the run before
    with pytest.raises(HostFault, match="virtme-ng does not run here"):
        subject.run(Deadline.after(10, "this test"))
