"""The borrowed cache: what is shared, what is not, and that nothing of it stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import paths
from harness.bench.caches import borrowed_cache


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own = tmp_path / "own"
    for name in ("images/packages-1/root", "images/0123", "kernels/4567"):
        (own / name).mkdir(parents=True)
    (own / "kernels/pins.json").write_text("{}")
    monkeypatch.setenv("HARNESS_CACHE", str(own))
    monkeypatch.setenv("CCACHE_DIR", "the user's")
    return own


def test_only_what_is_asked_for_is_shared(own: Path, tmp_path: Path) -> None:
    with borrowed_cache(tmp_path, ("images/packages-*", "kernels/pins.json", "no/such")) as cache:
        assert paths.cache_dir() == cache
        assert os.environ["CCACHE_DIR"].startswith(str(cache))
        found = {str(path.relative_to(cache)) for path in cache.rglob("*") if not path.is_dir() or path.is_symlink()}
        assert found == {"images/packages-1", "kernels/pins.json"}


def test_nothing_stays_and_nothing_of_the_users_goes(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), borrowed_cache(tmp_path, ("images/packages-*",)) as cache:
        (cache / "images/89ab").mkdir()
        raise ZeroDivisionError
    assert not cache.exists()
    assert paths.cache_dir() == own
    assert os.environ["CCACHE_DIR"] == "the user's"
    assert sorted(path.name for path in (own / "images").iterdir()) == ["0123", "packages-1"]
    assert (own / "images/packages-1/root").is_dir()


def test_a_variable_that_was_not_set_is_not_set_afterwards(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CCACHE_DIR")
    with borrowed_cache(tmp_path, ()):
        assert "CCACHE_DIR" in os.environ
    assert "CCACHE_DIR" not in os.environ
