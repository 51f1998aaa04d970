"""A cache of its own for every test that would otherwise build into the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an archive that cannot be reached: whoever asks for network gets a HostFault."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    return tmp_path / "cache"


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(120, "a test of kernels")
