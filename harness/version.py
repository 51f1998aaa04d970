"""The harness's own version."""

from __future__ import annotations

import functools
import tomllib

from harness.paths import PROJECT


@functools.cache
def harness_version() -> str:
    """As pyproject.toml has it: in a lab, the harness runs from the project's folder without being installed."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])
