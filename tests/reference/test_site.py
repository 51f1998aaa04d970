"""The site: built strictly, it has every page and no link that leads nowhere."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from harness.paths import PROJECT


def build_site(into: Path, **settings: Any) -> None:
    build(load_config(str(PROJECT / "mkdocs.yml"), strict=True, site_dir=str(into), **settings))


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    build_site(tmp_path)
    for page in ("", "claims", "fidelity", "reference/scenario", "reference/commands", "contributing"):
        assert (tmp_path / page / "index.html").is_file()
    assert (tmp_path / "scenarios/demo.yaml").read_text() == (PROJECT / "scenarios/demo.yaml").read_text()
    assert 'href="../scenarios/races/vm-after-shutdown.yaml"' in (tmp_path / "claims/index.html").read_text()


def test_a_page_in_no_menu_and_links_that_lead_nowhere_fail_the_build(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "forgotten.md").write_text("# In no menu\n")
    good, bad = ("#a-heading", "../CONTRIBUTING.md"), ("gone.md", "#gone", "../scenarios/gone.yaml")
    links = "\n".join(f"[link]({target})" for target in (*good, *bad))
    (docs / "index.md").write_text(f"# One\n\n## A heading\n\n{links}\n")

    nav = ["index.md", "contributing.md", "reference/scenario.md", "reference/commands.md"]
    with caplog.at_level(logging.WARNING, "mkdocs"), pytest.raises(Abort):
        build_site(tmp_path / "site", docs_dir=str(docs), nav=nav)
    assert any("forgotten.md" in message and "nav" in message for message in caplog.messages)
    complaints = " ".join(message for message in caplog.messages if "'index.md'" in message)
    assert re.findall(r"a link '(.*?)'", complaints) == ["gone.md", "scenarios/gone.yaml", "#gone"]
