"""`harness explain`: what a word means."""

from __future__ import annotations

import textwrap

import click
from rich.console import Console
from rich.text import Text

from harness.cli import complete
from harness.explain.explanation import Explanation
from harness.explain.words import explain as explain_word
from harness.report.terminal import results_console


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="WORD…", shell_complete=complete.words)
def explain(words: tuple[str, ...]) -> int:
    """Explain a kernel function, a claim, a step, an expectation, a key of a scenario, an event or a mutant.

    Of a function: its names in each kernel and the module that it is in, the claims, scenarios and mutants that are
    about it, and its events in the newest run that has them. Of a claim: what decides it, where it is known to be
    violated, and which mutants should violate it. Of what a scenario can say: its keys, and a real example.

    \b
    harness explain kvm_shutdown
    harness explain check-after-register
    harness explain hold order machine.cpu.feat_ctl
    """
    console = results_console()
    for found in [one for word in words for one in explain_word(word)]:
        _print(console, found)
    return 0


def _print(console: Console, found: Explanation) -> None:
    console.print(Text.assemble((found.name, "bold"), f"  {found.kind}"))
    for paragraph in found.text.splitlines():
        _print_line(console, paragraph, 2)
    for section in found.sections:
        console.print(Text(f"  {section.heading}", "dim"))
        for line in section.lines:
            _print_line(console, line, 4)
    console.print()


def _print_line(console: Console, line: str, indent: int) -> None:
    """Wrapped under itself; what is indented more already is an example, and stays as it is."""
    if line.startswith(" "):
        console.print(Text(" " * indent + line), soft_wrap=True)
        return
    text = textwrap.fill(
        line,
        console.width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.print(Text(text), soft_wrap=True)
