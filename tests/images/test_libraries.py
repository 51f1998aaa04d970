from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.errors import HostFault
from harness.images.libraries import shared_libraries


def build(root: Path, name: str, source: str, *options: str | Path) -> Path:
    (root / "main.c").write_text(source)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-nostdlib", "-o", path, root / "main.c", *options], check=True)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A program that needs liba, which needs libb, as if unpacked from packages."""
    where = "usr/lib/x86_64-linux-gnu"
    libb = build(tmp_path, f"{where}/libb.so", "int b(void) { return 1; }", "-shared", "-Wl,-soname,libb.so")
    liba = build(
        tmp_path,
        f"{where}/liba.so",
        "int b(void); int a(void) { return b(); }",
        "-shared",
        "-Wl,-soname,liba.so",
        libb,
    )
    build(tmp_path, "program", "int a(void); void _start(void) { a(); }", liba, libb, "-Wl,--as-needed")
    loader = tmp_path / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.write_bytes(b"no ELF, so it needs nothing")
    return tmp_path


def test_libraries_of_libraries_and_the_loader(root: Path) -> None:
    names = [path.name for path in shared_libraries([root / "program"], root)]
    assert names == ["ld-linux-x86-64.so.2", "liba.so", "libb.so"]


def test_missing_library_is_named(root: Path) -> None:
    (root / "usr/lib/x86_64-linux-gnu/libb.so").unlink()
    with pytest.raises(HostFault, match=r"needs libb\.so, which none of the guest image's packages has"):
        shared_libraries([root / "program"], root)


def test_static_programs_need_none(root: Path) -> None:
    static = build(root, "static", "void _start(void) {}", "-static")
    assert shared_libraries([static], root) == []
