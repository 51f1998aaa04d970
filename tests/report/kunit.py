"""The kernel's own parser of KTAP, out of Debian's package of the kernel's source."""

from __future__ import annotations

import functools
import importlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import paths
from harness.deadline import Deadline
from harness.debian import Archive

_SOURCE = "linux-source-7.3"
_FOLDER = Path("tools/testing/kunit")


def parse(ktap: str) -> Any:
    """The kunit_parser.Test at the root: `counts`, `subtests`, each with `name`, `status`, `subtests`."""
    parser, printer = _modules()
    return parser.parse_run_tests(ktap.splitlines(keepends=True), printer.Printer(output=io.StringIO()))


def statuses(test: Any) -> list[tuple[str, str]]:
    """Name and status of every test without subtests."""
    if not test.subtests:
        return [(test.name, test.status.name)]
    return [found for inner in test.subtests for found in statuses(inner)]


@functools.cache
def _modules() -> tuple[Any, Any]:
    unpacked = paths.cache_dir() / "sources" / _SOURCE / _FOLDER  # where debian-source:7.3 is built from
    if unpacked.is_dir():
        return _imported(unpacked)
    with tempfile.TemporaryDirectory() as scratch:
        _extract(Path(scratch))
        return _imported(Path(scratch, _FOLDER))


def _extract(into: Path) -> None:
    deadline = Deadline.after(600.0, f"the package {_SOURCE}")
    archive = Archive()
    (deb,) = archive.download([archive.find(_SOURCE, deadline)], deadline)
    command = (
        'dpkg-deb --fsys-tarfile "$1" | tar -xO "./usr/src/$2.tar.xz" | xz -dT0 '
        '| tar -xC "$3" --strip-components=1 "$2/tools/testing/kunit"'
    )
    subprocess.run(["bash", "-euo", "pipefail", "-c", command, "-", deb, _SOURCE, into], check=True, timeout=600)


def _imported(folder: Path) -> tuple[Any, Any]:
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the tree is a kernel's source
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("kunit_parser"), importlib.import_module("kunit_printer")
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes_bytecode
