"""harness kernels, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli.kernels import kernels
from harness.errors import UsageError
from tests.kernels.trees import make_tree


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return f"tree:{make_tree(tmp_path / 'linux')}"


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(kernels, arguments, catch_exceptions=False)


def test_fetch_list_rm(spec: str) -> None:
    assert "9.8.7" in _run("fetch", spec).stdout
    [entry] = json.loads(_run("list", "--json", "-").stdout)
    assert (entry["spec"], entry["release"]) == (spec, "9.8.7")
    assert entry["key"] in _run("list").stdout
    assert _run("rm", entry["key"]).stdout == f"removed {entry['key']}\n"
    assert json.loads(_run("list", "--json", "-").stdout) == []


def test_build_with_patch_and_fragment(spec: str, tmp_path: Path) -> None:
    patch, fragment, result = tmp_path / "fix.patch", tmp_path / "extra.config", tmp_path / "result.json"
    patch.write_text("--- a/init/main.c\n+++ b/init/main.c\n@@ -1 +1 @@\n-valid: one\n+valid: two\n")
    fragment.write_text("CONFIG_EXTRA=y\n")
    arguments = ["--patch", str(patch), "--config", str(fragment), "--json", str(result)]
    assert _run("build", spec, *arguments).exit_code == 0
    [kernel] = json.loads(result.read_text())
    assert Path(kernel["image"]).read_text() == "valid: two\n"
    assert kernel["provenance"]["patches"][0]["subject"] == "fix.patch"
    assert "fix.patch" in _run("list").stdout


def test_corrupt_entry_is_listed_as_such(spec: str) -> None:
    _run("fetch", spec)
    [entry] = json.loads(_run("list", "--json", "-").stdout)
    Path(entry["path"], "bzImage").unlink()
    assert "corrupt" in _run("list").stdout
    [entry] = json.loads(_run("list", "--json", "-").stdout)
    assert "bzImage" in entry["corrupt"]


def test_errors_come_out_as_what_they_are(spec: str) -> None:
    with pytest.raises(UsageError, match="no kernel"):
        _run("rm", "debian:2.6")
    assert _run("fetch").exit_code == 2
