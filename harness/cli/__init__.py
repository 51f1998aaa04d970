"""The command line: one module per command."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback

import click

from harness import progress
from harness.display import Level
from harness.errors import Exit, HarnessError
from harness.version import harness_version
from harness.visible import visible

_EXITS = """
\b
Exit status:
  0  every claim confirmed, or as declared with `known`
  1  a claim is violated
  2  the scenario or the command line is wrong; nothing was booted
  3  the harness, QEMU or the host failed; the kernel is not to blame
  4  something was not exercised
"""


# By name, in the order of --help: the module, and what it is called there.
COMMANDS = {
    "run": ("run", "run"),
    "shell": ("shell", "shell"),
    "attach": ("attach", "attach"),
    "stop": ("attach", "stop"),
    "matrix": ("matrix", "matrix"),
    "worker": ("worker", "worker"),
    "bisect": ("bisect", "bisect"),
    "try": ("try_", "try_"),
    "explore": ("explore", "explore"),
    "judge": ("judge", "judge"),
    "report": ("report", "report"),
    "mutants": ("mutants", "mutants"),
    "kernels": ("kernels", "kernels"),
    "doctor": ("doctor", "doctor"),
    "lab": ("lab", "lab"),
    "bench": ("bench", "bench"),
    "new": ("new", "new"),
    "explain": ("explain", "explain"),
    "schema": ("schema", "schema"),
    "completion": ("complete", "completion"),
}


class _Commands(click.Group):
    """The commands, each imported when it is used: all together take 1.6 s, which is long for a Tab."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"harness.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Commands, epilog=_EXITS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option("-v", "--verbose", is_flag=True, help="Tell everything on stderr, as it happens.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.version_option(harness_version())
def cli(verbose: bool, quiet: bool) -> None:
    """Check what a kernel patch claims about ordering, on real kernels under QEMU.

    Start with `harness doctor`, then `harness run scenarios/demo.yaml`.
    """
    progress.set_level(Level.QUIET if quiet else Level.VERBOSE if verbose else Level.NORMAL)


def main() -> None:
    """The console script: exit codes as documented, errors without traceback."""
    try:
        code = cli(standalone_mode=False)
    except HarnessError as error:
        print(f"harness: {visible(str(error))}", file=sys.stderr)
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
