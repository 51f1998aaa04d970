"""The private apt: what it finds, what it refuses, and that the host's is left alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.debian import SUITES, UNSTABLE, Archive, Package, release_of
from harness.errors import HostFault, UsageError

_NOWHERE = "http://127.0.0.1:9/debian"  # the discard port: connections are refused at once


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(300, "a test of the archive")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return Archive(tmp_path_factory.mktemp("apt"))


def _package(**changes: str) -> Package:
    fields = {"name": "kmod", "version": "30-1", "suite": "bookworm", "architecture": "amd64", **changes}
    return Package(**fields, size=0, sha256="")  # type: ignore[arg-type]  # all of `fields` are strings


def test_every_suite_belongs_to_one_release() -> None:
    assert release_of("bookworm-backports").name == "bookworm"
    assert release_of("sid") is UNSTABLE
    assert len(set(SUITES)) == len(SUITES)


def test_unknown_suite_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'jessie'") as caught:
        release_of("jessie")
    assert "bookworm-backports" in caught.value.expected


def test_file_name_quotes_the_epoch() -> None:
    assert _package(version="1:1.35.0-4").deb == "kmod_1%3a1.35.0-4_amd64.deb"


def test_no_network_and_no_lists_is_a_host_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadline: Deadline
) -> None:
    monkeypatch.setenv("HARNESS_DEBIAN_MIRROR", _NOWHERE)
    with pytest.raises(HostFault, match=re.escape(_NOWHERE)) as caught:
        Archive(tmp_path / "apt").find("kmod", deadline)
    assert "HARNESS_DEBIAN_MIRROR" in caught.value.hint
    assert "127.0.0.1" in caught.value.evidence


@pytest.mark.network
def test_find_gives_the_newest_of_the_suite(archive: Archive, deadline: Deadline) -> None:
    package = archive.find("kmod", deadline, suite="bookworm")
    assert package.suite == "bookworm"
    assert "libc6" in package.depends
    assert re.fullmatch("[0-9a-f]{64}", package.sha256)


@pytest.mark.network
def test_find_names_the_versions_that_there_are(archive: Archive, deadline: Deadline) -> None:
    with pytest.raises(UsageError, match=r"no package kmod 1\.0-1") as caught:
        archive.find("kmod", deadline, version="1.0-1", suite="bookworm")
    assert "(bookworm)" in caught.value.expected
    with pytest.raises(UsageError, match="no package no-such-package"):
        archive.find("no-such-package", deadline)


@pytest.mark.network
def test_download_replaces_a_damaged_file(archive: Archive, deadline: Deadline) -> None:
    package = archive.find("busybox-static", deadline, suite="bookworm")
    [deb] = archive.download([package], deadline)
    raw = bytearray(deb.read_bytes())
    assert len(raw) == package.size
    raw[1000] ^= 1
    deb.write_bytes(raw)
    assert archive.download([package], deadline) == [deb]
    assert deb.read_bytes() != raw


@pytest.mark.network
def test_a_version_that_the_archive_lost_is_a_host_fault(archive: Archive, deadline: Deadline) -> None:
    with pytest.raises(HostFault, match="cannot fetch"):
        archive.download([_package(version="0-0")], deadline)


@pytest.mark.network
def test_unpack_with_dependencies_brings_the_libraries(archive: Archive, tmp_path: Path, deadline: Deadline) -> None:
    packages = archive.unpack_with_dependencies(["kmod"], "bookworm", tmp_path / "tree", deadline)
    assert {"kmod", "libkmod2", "libc6"} <= {package.name for package in packages}
    assert (tmp_path / "tree/bin/kmod").is_file()
    assert list((tmp_path / "tree").rglob("libkmod.so.2"))


@pytest.mark.network
def test_closure_of_the_impossible_says_so(archive: Archive, deadline: Deadline) -> None:
    with pytest.raises(UsageError, match="cannot provide no-such-package") as caught:
        archive.closure(["no-such-package"], "bookworm", deadline)
    assert "Unable to locate package" in caught.value.evidence


@pytest.mark.network
def test_old_lists_do_without_network(
    archive: Archive, deadline: Deadline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.update(deadline)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    archive.update(deadline, older_than=0)
    assert "cannot be reached" in capsys.readouterr().err
    assert archive.find("kmod", deadline).name == "kmod"
