"""One guest for each way to hold its tasks, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.probes.holding import Stand, gdb_stand, plugin_stand


@pytest.fixture(scope="package")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with plugin_stand(tmp_path_factory.mktemp("plugin")) as stand:
        yield stand


@pytest.fixture(scope="package")
def gdbstub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with gdb_stand(tmp_path_factory.mktemp("gdbstub")) as stand:
        yield stand
