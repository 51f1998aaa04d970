"""Options that several commands have: one meaning, one help text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from harness import progress
from harness.cli import complete
from harness.display import Level
from harness.machine.engine import AUTO

kernel = click.option(
    "--kernel",
    metavar="K",
    shell_complete=complete.kernels,
    help='debian:6.12, git:PATH@REV, … (docs/kernels.md); "SPEC +MUTANT" has a seeded bug in it.',
)

engine = click.option(
    "--engine",
    default=AUTO,
    show_default=True,
    shell_complete=complete.engines,
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


def _telling(level: Level) -> Callable[[click.Context, click.Parameter, bool], bool]:
    def tell(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
        if value:
            if progress.level() not in (Level.NORMAL, level):
                raise click.BadParameter("-q and -v cannot go together")
            progress.set_level(level)
        return value

    return tell


# Of commands that run guests: everything is told while it happens, or nothing.
quiet = click.option(
    "-q", "--quiet", is_flag=True, expose_value=False, callback=_telling(Level.QUIET), help="No progress on stderr."
)
telling = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    callback=_telling(Level.VERBOSE),
    help="Tell each step, command and event as it happens; show the evidence of confirmed claims as well.",
)
