"""A run as plain text for a mail to the list: at most 78 columns, no colour, nothing that a mail would mangle."""

from __future__ import annotations

import itertools
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import yaml

from harness.judge.record import RunRecord
from harness.judge.verdict import ClaimVerdict, Finding, Found, Judgement, Verdict
from harness.probes.event import Event
from harness.report import reproduce, words
from harness.report.lanes import brief, task_of
from harness.report.result import beneath
from harness.report.timeline import Timeline, timeline

COLUMNS = 78  # what a mail keeps after it was quoted once
_SEQ = 7
_NARROWEST = 16  # of a CPU's column; with more CPUs than fit like this there is one column for all
_MOST_EVENTS = 40
_ASCII = str.maketrans({"→": ">", "←": "<", "·": "-", "┌": "[", "└": "]", "■": "#", "▶": "~", "×": "x", "–": "-"})
_RULE = "-" * COLUMNS


def text_report(record: RunRecord, judgement: Judgement) -> str:
    """The verdicts of a run, what decided them, and the command to see it again."""
    where = beneath(record.engine, record.host)
    lines = [
        words.headline(judgement),
        "",
        *_wrap(record.scenario.title, "scenario: "),
        *_wrap(f"{record.kernel['label']} ({record.kernel['release']})", "kernel:   "),
        *_wrap(", ".join(filter(None, (record.engine, f"QEMU {_qemu(record)}", where))), "engine:   "),
    ]
    if record.fault is not None:
        lines += ["", *_wrap(f"The run ended early: {record.fault.text}", "")]
    line = timeline(record, judgement)
    for claim in sorted(judgement.claims, key=lambda claim: words.rank(claim.verdict)):
        lines += ["", _RULE, *_claim(claim, line)]
    lines += ["", _RULE, "To reproduce, with the scenario below:", ""]
    lines += _command(reproduce.command(record, f"{record.name.partition('#')[0]}.yaml"))
    plain = [_plain(line).rstrip() for line in lines]
    once = [line for before, line in itertools.pairwise(["", *plain]) if line or before]
    return "\n".join([*once, "", _scenario(record)])


def _scenario(record: RunRecord) -> str:
    """The scenario, folded to the mail's width: YAML goes on until a word reaches the width, and breaks then."""
    scenario = yaml.safe_load((record.folder / "scenario.yaml").read_text(errors="replace"))
    text = ""
    for width in range(COLUMNS - 6, COLUMNS // 2, -6):
        text = yaml.safe_dump(scenario, sort_keys=False, allow_unicode=True, width=width)
        if all(len(line) <= COLUMNS for line in text.splitlines()):
            break
    return text


def _qemu(record: RunRecord) -> str:
    return reproduce.qemu_version(record.folder)


def _claim(claim: ClaimVerdict, line: Timeline) -> Iterator[str]:
    note = f" ({declared})" if (declared := words.declared(claim)) else ""
    yield f"{claim.verdict.value.upper()}{note}: {claim.use.claim.id}"
    yield ""
    yield from _wrap(claim.use.claim.text, "  ")
    yield from _wrap(claim.use.claim.source, "  [", after="]")
    for word, commit in (("since", claim.use.since), ("fixed by", claim.use.fixed_by)):
        if commit and claim.known == Verdict.VIOLATED.value:
            yield from _wrap(commit, f"  {word}: ")
    yield ""
    for found in claim.findings:
        yield from _finding(found)
    yield from _lanes(words.course(claim, line))


_FINDINGS = {Finding.HELD: "ok", Finding.FAILED: "FAILED", Finding.UNSEEN: "unseen"}


def _finding(found: Found) -> Iterator[str]:
    kind = f" {found.expectation.kind}:" if found.expectation else ""
    yield from _wrap(found.text, f"  {_FINDINGS[found.finding]:6}{kind} ")
    if words.decides(found):
        yield from _lanes(found.events)
    yield from (f"    | {line}"[:COLUMNS] for line in found.evidence)


def _lanes(events: Sequence[Event]) -> Iterator[str]:
    """Events with a column per CPU, as commit messages draw them; as a list where there are too many CPUs."""
    if not events:
        return
    cpus = sorted({event.cpu for event in events})
    width = (COLUMNS - 4 - _SEQ) // len(cpus)
    yield ""
    if width < _NARROWEST:
        cpus, width = [], COLUMNS - 4 - _SEQ
        yield f"    {'seq':>{_SEQ - 2}}"
    else:
        yield f"    {'seq':>{_SEQ - 2}}  " + "".join(f"CPU {cpu}".ljust(width) for cpu in cpus)
    for event in events[:_MOST_EVENTS]:
        seq = f"    {'-' if event.seq is None else event.seq:>{_SEQ - 2}}  "
        text = f"{brief(event)}  {task_of(event)}"
        if not cpus:
            text = f"CPU {event.cpu}: {text}"
        indent = " " * (width * cpus.index(event.cpu) if cpus else 0)
        # An event may reach into the columns behind its own, which are empty in its line.
        yield from textwrap.wrap(
            text, COLUMNS, initial_indent=seq + indent, subsequent_indent=" " * len(seq) + indent + "  "
        )
    if len(events) > _MOST_EVENTS:
        yield f"    ({len(events) - _MOST_EVENTS} more)"
    yield ""


def _command(command: Iterable[str]) -> Iterator[str]:
    """A command line, broken where a shell takes it."""
    line = " "
    for word in command:
        quoted = reproduce.command_line([word])
        if len(line) + len(quoted) + 3 > COLUMNS and line.strip():
            yield line + " \\"
            line = "   "
        line += f" {quoted}"
    yield line


def _wrap(text: str, before: str, after: str = "") -> list[str]:
    return textwrap.wrap(
        text + after,
        COLUMNS,
        initial_indent=before,
        subsequent_indent=" " * len(before),
        break_on_hyphens=False,
    ) or [before + after]


def _plain(line: str) -> str:
    """A line as ASCII where it has our own signs, and without control characters, which a guest may have printed."""
    return "".join(
        sign if unicodedata.category(sign)[0] != "C" else "?" for sign in line.translate(_ASCII).replace("\t", "    ")
    )
