"""MkDocs' hook: the reference pages, and what the pages link to outside `docs/`, as parts of the site.

`mkdocs.yml` names it; MkDocs calls its functions by their names.
"""

from __future__ import annotations

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from harness.cli import cli
from harness.paths import PROJECT
from harness.reference.commands import command_reference
from harness.reference.scenario import scenario_reference

# A page of the site -> the file of the project that it is, whose links start from the project's folder.
_OUTSIDE = {"contributing.md": "CONTRIBUTING.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages, the pages that stand elsewhere, and all scenarios as files to load."""
    pages = {
        "reference/scenario.md": scenario_reference(),
        "reference/commands.md": command_reference(cli),
        **{name: _from_docs((PROJECT / source).read_text()) for name, source in _OUTSIDE.items()},
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    for path in sorted(PROJECT.glob("scenarios/**/*.yaml")):
        files.append(File.generated(config, str(path.relative_to(PROJECT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that leave `docs/` lead to the same file in the site."""
    for name, source in _OUTSIDE.items():
        markdown = markdown.replace(f"](../{source}", f"]({name}")
    return re.sub(r"\]\(\.\./(scenarios/[\w/.-]+\.yaml)", _relative_to(page), markdown)


def _relative_to(page: Page) -> str:
    return r"](" + "../" * page.file.src_uri.count("/") + r"\1"


def _from_docs(markdown: str) -> str:
    return markdown.replace("](docs/", "](")
