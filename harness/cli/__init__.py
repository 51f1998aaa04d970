"""The command line: one module per command."""

from __future__ import annotations

import sys
import traceback

import click

from harness import progress
from harness.cli.attach import attach, stop
from harness.cli.bench import bench
from harness.cli.bisect import bisect
from harness.cli.complete import completion
from harness.cli.doctor import doctor
from harness.cli.explain import explain
from harness.cli.explore import explore
from harness.cli.judge import judge
from harness.cli.kernels import kernels
from harness.cli.matrix import matrix
from harness.cli.mutants import mutants
from harness.cli.new import new
from harness.cli.report import report
from harness.cli.run import run
from harness.cli.schema import schema
from harness.cli.shell import shell
from harness.cli.try_ import try_
from harness.cli.worker import worker
from harness.display import Level
from harness.errors import Exit, HarnessError

_EXITS = """
\b
Exit status:
  0  every claim confirmed, or as declared with `known`
  1  a claim is violated
  2  the scenario or the command line is wrong; nothing was booted
  3  the harness, QEMU or the host failed; the kernel is not to blame
  4  something was not exercised
"""


@click.group(epilog=_EXITS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-v", "--verbose", is_flag=True, help="Tell everything on stderr, as it happens.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.version_option(package_name="virt-ordering-harness")
def cli(verbose: bool, quiet: bool) -> None:
    """Check what a kernel patch claims about ordering, on real kernels under QEMU.

    Start with `harness doctor`, then `harness run scenarios/demo.yaml`.
    """
    progress.set_level(Level.QUIET if quiet else Level.VERBOSE if verbose else Level.NORMAL)


for _command in (
    run,
    shell,
    attach,
    stop,
    matrix,
    worker,
    bisect,
    try_,
    explore,
    judge,
    report,
    mutants,
    kernels,
    doctor,
    bench,
    new,
    explain,
    schema,
    completion,
):
    cli.add_command(_command)


def main() -> None:
    """The console script: exit codes as documented, errors without traceback."""
    try:
        code = cli(standalone_mode=False)
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        code = int(error.exit)
    except click.ClickException as error:
        error.show()
        code = int(Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        print("harness: interrupted", file=sys.stderr)
        code = 130
    except Exception:
        # Exit status 1 would blame the kernel.
        traceback.print_exc()
        print("harness: this is a bug of the harness; the kernel is not to blame", file=sys.stderr)
        code = int(Exit.HARNESS_FAULT)
    sys.exit(code)
