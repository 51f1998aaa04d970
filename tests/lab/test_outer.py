"""What the lab sees of the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.lab.outer import cache_folder, shares


def mounted(runs: Path) -> list[tuple[str, str]]:
    return [(share.tag, mode) for share, mode in shares(runs).items()]


def test_a_folder_within_another_is_mounted_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "a" / "cache"))
    assert mounted(tmp_path).index(("runs", "rw")) < mounted(tmp_path).index(("cache", "layered"))
    inner = cache_folder() / "runs"
    assert mounted(inner).index(("cache", "layered")) < mounted(inner).index(("runs", "rw"))
    assert mounted(Path("/")) == [("runs", "rw"), *(row for row in mounted(inner) if row[0] != "runs")]


def test_the_cache_is_where_its_link_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "link" / "cache"))
    assert cache_folder() == (tmp_path / "disk" / "cache").resolve()
