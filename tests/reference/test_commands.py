"""The command reference has every command, with its help."""

from __future__ import annotations

import click

from harness.cli import COMMANDS, cli
from harness.reference.commands import command_reference


def test_every_command_has_its_help() -> None:
    page = command_reference(cli)
    for name in COMMANDS:
        assert f"\n## harness {name}\n" in page
    assert "Usage: harness run [OPTIONS]" in page
    assert "\n## harness kernels fetch\n" in page


def test_what_is_hidden_stays_so() -> None:
    @click.group()
    def root() -> None:
        """All."""

    @root.command(hidden=True)
    def secret() -> None:
        """Nothing."""

    assert "secret" not in command_reference(root, "root")
