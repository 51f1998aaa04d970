"""A cache that lacks what is to be measured, and shares the rest with the user's own, which stays as it is."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness import paths


@contextlib.contextmanager
def borrowed_cache(scratch: Path, shared: Sequence[str]) -> Iterator[Path]:
    """Makes a new folder in `scratch` the cache of the block; it and its objects are removed afterwards.

    `shared` are patterns of what it has of the user's cache, as symbolic links. Compiled objects go to a ccache of
    its own: the user's would make a clean build look like none.
    """
    own = paths.cache_dir().absolute()
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        cache = Path(name)
        for source in (path for pattern in shared for path in own.glob(pattern)):
            link = cache / source.relative_to(own)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
        with paths.environment({"HARNESS_CACHE": str(cache), "CCACHE_DIR": str(cache / "ccache")}):
            yield cache
