"""Which QEMU is taken. A shell script stands for QEMUs of other versions: only their --version is asked."""

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.machine import toolchain
from tests.guests import deadline


def program(folder: Path, version: str) -> Path:
    path = folder / toolchain.PROGRAM
    path.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version} (Debian)'\n")
    path.chmod(0o755)
    return path


def test_the_one_that_the_user_names_is_taken_whatever_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_QEMU", str(program(tmp_path, "7.2.1")))
    qemu = toolchain.find(deadline())
    assert (qemu.version, qemu.fits) == ("7.2.1", False)
    assert qemu.argv_prefix == (str(tmp_path / toolchain.PROGRAM),)


@pytest.mark.parametrize("found", ["/nonexistent", "/bin/true"])
def test_the_user_names_something_else(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_QEMU", found)
    with pytest.raises(UsageError, match="does not name a working QEMU") as caught:
        toolchain.find(deadline())
    assert caught.value.found == found


def test_the_system_s_is_taken_when_it_is_of_the_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_QEMU", raising=False)
    monkeypatch.setenv("PATH", str(program(tmp_path, f"{toolchain.SERIES}.9").parent), prepend=":")
    qemu = toolchain.find(deadline())
    assert qemu.origin == f"the system's {tmp_path / toolchain.PROGRAM}"


@pytest.mark.network
def test_a_system_s_of_another_series_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_QEMU", raising=False)
    monkeypatch.setenv("PATH", str(program(tmp_path, "7.2.1").parent), prepend=":")
    qemu = toolchain.find(deadline(600))
    assert qemu.fits
    assert "trixie-backports" in qemu.origin


@pytest.mark.network
def test_a_broken_one_in_the_cache_is_unpacked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_QEMU", raising=False)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    broken = tmp_path / "qemu" / toolchain.SERIES / "usr/bin" / toolchain.PROGRAM
    broken.parent.mkdir(parents=True)
    broken.write_text("half of it")
    assert toolchain.find(deadline(600)).fits
    assert broken.stat().st_size > 1_000_000
