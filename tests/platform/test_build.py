"""The plugin's compilation: once per set of sources, refused for a QEMU that could not load it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import UsageError
from harness.platform import build
from harness.process import ProcessFailed


def _soon() -> Deadline:
    return Deadline.after(120, "a test")


def test_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    built = build.plugin("11.1.3", _soon())
    assert built.is_file() and tmp_path in built.parents
    made = built.stat().st_mtime_ns
    assert build.plugin("11.1.3", _soon()) == built
    assert built.stat().st_mtime_ns == made


def test_changed_sources_are_another_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "SOURCES", tmp_path / "plugin")
    build.SOURCES.mkdir()
    (build.SOURCES / "plugin.c").write_text("int qemu_plugin_version = 7;\n")
    (build.SOURCES / "plugin.h").write_text("/* first */\n")
    first = build.plugin("11.1.3", _soon())
    (build.SOURCES / "plugin.h").write_text("/* second */\n")
    assert build.plugin("11.1.3", _soon()) != first


def test_nothing_is_kept_of_sources_that_do_not_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "SOURCES", tmp_path / "plugin")
    build.SOURCES.mkdir()
    (build.SOURCES / "plugin.c").write_text("int f(void) { int unused; return 0; }\n")  # a warning is an error
    with pytest.raises(ProcessFailed, match="unused"):
        build.plugin("11.1.3", _soon())
    assert not list((tmp_path / "cache").rglob("*.so"))


@pytest.mark.parametrize("version", ["7.2.0", "10.0.3", "11.0.9"])
def test_an_older_qemu_is_refused(version: str) -> None:
    with pytest.raises(UsageError, match=rf"API 7: QEMU 11.1 or later\n.*QEMU {version}"):
        build.plugin(version, _soon())
