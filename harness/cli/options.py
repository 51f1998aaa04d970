"""Options that several commands have: one meaning, one help text."""

from __future__ import annotations

from pathlib import Path

import click

from harness.machine.engine import AUTO

engine = click.option(
    "--engine",
    default=AUTO,
    show_default=True,
    help="tcg-svm, tcg-vmx, kvm, or auto: per scenario, the first that works here and has what it needs.",
)

patches = click.option(
    "--patch",
    "patches",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Apply a patch, mailbox or quilt series to the kernel (repeatable, in order).",
)

fragments = click.option(
    "--config",
    "fragments",
    multiple=True,
    metavar="NAME",
    help="Add a fragment to the build: kconfigs/NAME.config, or a path (repeatable, in order).",
)

modules_only = click.option(
    "--modules-only", default="", metavar="SET", help="Rebuild only these modules of a debian: kernel: kvm."
)

json_file = click.option("--json", "json_file", metavar="FILE", help='Write the results as JSON too ("-": stdout).')

verbose = click.option("-v", "--verbose", is_flag=True, help="Show the evidence of confirmed claims as well.")
