"""Where things live on the host: the cache of the user, and the data that the project ships."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import platformdirs

PROJECT = Path(__file__).resolve().parent.parent


def cache_dir() -> Path:
    """The cache (kernels, images, QEMU): $HARNESS_CACHE, else virt-ordering-harness under the XDG cache directory."""
    override = os.environ.get("HARNESS_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("virt-ordering-harness"))


def runs_dir() -> Path:
    """Folder that run folders are made in: $HARNESS_RUNS, else ./runs."""
    return Path(os.environ.get("HARNESS_RUNS", "runs"))


def doors_dir() -> Path:
    """Where other processes of this user find live runs: a folder in $XDG_RUNTIME_DIR, else in the temporary one.

    Short, since the path of a socket has 108 bytes at most.
    """
    name = "virt-ordering-harness"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # After su(1) it may still name another user's.
    return (
        Path(runtime) / name if os.access(runtime, os.W_OK) else Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    )


def runs_in(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Run folders are made in `folder` during the block, also by processes that it starts."""
    return environment({"HARNESS_RUNS": str(folder)})


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
