"""What an engine came to on a host, as a mail to somebody who has no such host."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.errors import Exit
from harness.judge.record import load_record
from harness.machine.doctor import TOOLS, Level, Report
from harness.paths import PROJECT, cache_dir, runs_dir
from harness.report import words
from harness.report.result import RunResult
from harness.report.text import COLUMNS, text_report


def confirmation(
    harness: str, facts: Iterable[tuple[str, str]], report: Report, results: Sequence[RunResult], fault: str
) -> str:
    """The whole text, without what names the machine's users.

    `facts` are the host's (harness/machine/sheet.py), `report` is doctor's, `results` are the runs, and `fault` says
    what kept the others from being, "" when they are all there.
    """
    lines = [
        f"virt-ordering-harness {harness}: harness doctor --confirm",
        *_section("This host", (line for name, text in facts for line in _entry(name, text))),
        *_section("What was tried, and what the host has", _doctor(report)),
    ]
    if results:
        lines += _section("Runs", _runs(results))
    if fault:
        lines += _section("No more runs", (line for told in fault.splitlines() for line in _wrap(told)))
    for result in results:
        if result.exit is not Exit.CONFIRMED:
            lines += _section(
                f"{result.scenario} on {result.column}: not as declared",
                text_report(load_record(result.folder), result.judgement).splitlines(),
            )
    return _without_names("\n".join(lines) + "\n")


def _doctor(report: Report) -> Iterator[str]:
    for proof in report.engines:
        took = f" ({proof.seconds} s)" if proof.works else f"; expected: {proof.expected}"
        yield from _entry(f"engine {proof.engine}", f"{'works' if proof.works else 'no'}: {proof.text}{took}")
    programs = {tool.program for tool in TOOLS}
    for check in report.checks:
        if check.level is not Level.OK or check.name not in programs:
            yield from _entry(check.name, f"{check.level.value}: {check.found}")


def _runs(results: Sequence[RunResult]) -> Iterator[str]:
    good = sum(result.exit is Exit.CONFIRMED for result in results)
    yield f"{good} of {len(results)} as declared"
    for result in results:
        yield ""
        yield from _wrap(f"{result.scenario} on {result.column}: {result.seconds:.1f} s, Linux {result.release}")
        if result.beneath:
            yield f"  {result.beneath}"
        for claim in result.judgement.claims:
            note = f" ({declared})" if (declared := words.declared(claim)) else ""
            yield f"  {claim.verdict.value}{note}: {claim.use.claim.id}"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return ["", *(head := _wrap(title)), "-" * max(map(len, head)), "", *lines]


def _entry(name: str, text: str) -> list[str]:
    return _wrap(f"{name}: {text}")


def _wrap(text: str) -> list[str]:
    # A name that is broken over two lines would be found no more.
    return textwrap.wrap(_without_names(text), COLUMNS, subsequent_indent="    ", break_on_hyphens=False)


def _without_names(text: str) -> str:
    """Paths of the user's own go by what they are: home directories have people's names."""
    own = {PROJECT: "PROJECT", cache_dir().absolute(): "CACHE", runs_dir().absolute(): "RUNS", Path.home(): "~"}
    for path, name in sorted(((str(path), name) for path, name in own.items()), key=lambda pair: -len(pair[0])):
        if path != "/":
            text = text.replace(path, name)
    return text
