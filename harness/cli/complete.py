"""`harness completion`, and what there is to complete: scenarios, kernels, engines, claims, live runs.

Who presses Tab waits, and the models of scenarios and sources take a second to import: whoever needs them imports
them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import BashComplete, ZshComplete

from harness.errors import HarnessError
from harness.visit import live_runs

_CLAIMS = "claims.yaml"  # beside the scenarios, and none
_PROGRAM = "harness"
_VARIABLE = "_HARNESS_COMPLETE"

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _of(words: Callable[[], Iterable[str]]) -> Complete:
    """Completes one of `words`. Whatever goes wrong there, the shell hears of nothing but what there is."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        with contextlib.suppress(HarnessError, OSError, ValueError):
            return sorted({word for word in words() if word.startswith(incomplete)})
        return []

    return complete


def scenarios(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """YAML files, and folders on the way to some."""
    folder, _, begun = incomplete.rpartition("/")
    found = []
    with contextlib.suppress(OSError):
        for entry in Path(f"{folder}/" if folder or incomplete.startswith("/") else ".").iterdir():
            if not entry.name.startswith(begun) or entry.name.startswith("."):
                continue
            path = incomplete[: len(incomplete) - len(begun)] + entry.name
            if entry.is_dir():
                found.append(f"{path}/")
            elif entry.suffix == ".yaml" and entry.name != _CLAIMS:
                found.append(path)
    return sorted(found)


def _kernels() -> Iterable[str]:
    """The specs of what is in the cache, what needs no more than a name, and how the others begin."""
    from harness.debian import SUITES
    from harness.kernels import store
    from harness.kernels.resolve import SOURCES

    for meta in store.root().glob("*/meta.json"):
        yield json.loads(meta.read_bytes())["spec"]
    yield from (f"debian:{suite}" for suite in SUITES)
    yield from (f"{scheme}:" for scheme in SOURCES)


def _engines() -> Iterable[str]:
    from harness.machine.engine import AUTO, NAMES

    return (*NAMES, AUTO)


def _words() -> Iterable[str]:
    """Claims and steps."""
    from harness.scenario.load import reference_claims
    from harness.scenario.steps import STEP_KINDS

    return (*reference_claims(), *STEP_KINDS)


kernels = _of(_kernels)
engines = _of(_engines)
words = _of(_words)
live = _of(lambda: (visitor.name for visitor in live_runs()))


class _Bash(BashComplete):
    """Bash takes a colon for the end of a word, and kernels have colons; and it puts a space behind a folder."""

    source_template = """\
%(complete_func)s() {
    local before="${COMP_LINE:0:COMP_POINT}" words reply cut
    read -ra words <<<"$before"
    [[ $before == *[[:space:]] ]] && words+=("")
    local current="${words[-1]}"
    # What of the word bash itself has already put behind it.
    cut="${current%%"${COMP_WORDS[COMP_CWORD]}"}"
    [[ ${COMP_WORDS[COMP_CWORD]} == : ]] && cut="$current"
    COMPREPLY=()
    while IFS=, read -r kind reply; do
        case $kind in
        dir) compopt -o dirnames ;;
        file) compopt -o default ;;
        plain)
            COMPREPLY+=("${reply#"$cut"}")
            [[ $reply == *[/:] ]] && compopt -o nospace
            ;;
        esac
    done < <(COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def source(self) -> str:
        return self.source_template % self.source_vars()  # without asking bash for its version, which takes a process


_SHELLS = {"bash": _Bash, "zsh": ZshComplete}


@click.command()
@click.argument("shell", type=click.Choice([*_SHELLS]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the script that completes commands, options, scenarios, kernels, engines, claims and live runs.

    \b
    eval "$(harness completion bash)"       # in ~/.bashrc
    eval "$(harness completion zsh)"        # in ~/.zshrc, after compinit
    """
    command = context.find_root().command
    print(_SHELLS[shell](command, {}, _PROGRAM, _VARIABLE).source(), end="")
    return 0
