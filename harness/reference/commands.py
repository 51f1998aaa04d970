"""The command reference: what `--help` of each command says."""

from __future__ import annotations

from collections.abc import Iterator

import click

_WIDTH = 100

_HEAD = """\
# Command reference

What `--help` says of each command.
"""


def command_reference(root: click.Group, name: str = "harness") -> str:
    """The page, as Markdown, of `root` and all commands below it."""
    return "\n".join([_HEAD, *_sections(root, name, None)])


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    width = {"terminal_width": _WIDTH, "max_content_width": _WIDTH}
    context = command.make_context(name, [], parent, resilient_parsing=True, **width)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from _sections(found, below, context)
