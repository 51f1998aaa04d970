"""A run as one page, and a batch of runs as an index: self-contained HTML that is readable without its script.

Everything that comes out of a guest (messages, names of tasks) or out of a patch is hostile: Jinja escapes all of it,
and the script only ever moves what the page has already.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from harness import progress
from harness.judge.record import RunRecord
from harness.judge.verdict import ClaimVerdict, Finding, Found, Judgement, Verdict
from harness.observe.splats import find_splats
from harness.output import write_output
from harness.probes.event import Event
from harness.report import reproduce, words
from harness.report.drawing import GUTTER, WIDTH, draw
from harness.report.lanes import brief, describe, task_of
from harness.report.result import NotRun, RunResult, beneath
from harness.report.thinning import Shown, shown
from harness.report.timeline import Band, LogLine, Span, Timeline, timeline

REPORT = "report.html"
INDEX = "index.html"

_MOST_LOG_LINES = 3000
_BOOT_LINES = 3  # shown before the first traced message; what was printed earlier is folded
_LONG = 400  # events; a longer run is printed on paper without those that no verdict rests on

_COMMIT = r"\b(?P<commit>[0-9a-f]{12,40})\b"
_URL = r"(?P<url>https?://[^\s<>\"']+[^\s<>\"'.,;:)])"
_MESSAGE = r"(?P<message>[\w.+-]+@[\w.-]+\.\w+)"
_LINKS = re.compile("|".join((_URL, _MESSAGE, _COMMIT)))
_TARGETS = {"url": "", "commit": "https://git.kernel.org/linus/", "message": "https://lore.kernel.org/r/"}


def linked(text: str) -> Markup:
    """Text with its commits, message ids and addresses as links."""
    parts = []
    end = 0
    for found in _LINKS.finditer(text):
        kind = found.lastgroup or "url"
        target = escape(_TARGETS[kind] + found[0])
        parts += [escape(text[end : found.start()]), Markup(f'<a href="{target}">{escape(found[0])}</a>')]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


@functools.cache
def _environment() -> jinja2.Environment:
    """Undefined names are errors, and what is no HTML file (style sheet, script) is ours."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "linked": linked,
        "identity": id,
        "px": lambda value: f"{value:.2f}".rstrip("0").rstrip("."),
    }
    environment.globals |= {
        "signs": words.SIGNS,
        "finding_signs": words.FINDING_SIGNS,
        "declared": words.declared,
        "brief": brief,
        "task": task_of,
        "style": _ours("report.css"),
        "script": _ours("report.js"),
    }
    return environment


def _ours(name: str) -> Markup:
    return Markup((Path(__file__).parent / "templates" / name).read_text())


@dataclass(frozen=True)
class Cell:
    """A CPU's lane in the row of an event."""

    cpu: int
    kinds: str  # classes: on, unknown, inferred, held, here
    sign: str


@dataclass(frozen=True)
class Row:
    """An event in the list of events."""

    position: int
    seq: str
    cpu: int
    name: str
    phase: str
    text: str
    task: str
    cells: tuple[Cell, ...]
    turns: tuple[str, ...]  # what changes here: CPU 1: virtualization on
    line: LogLine | None
    failed: tuple[str, ...]  # the findings that failed on it
    evidence: bool
    boot: int | None  # the boot that begins here
    left_out: str


@dataclass(frozen=True)
class Sampled:
    """A sample as a row of the table of samples."""

    name: str
    virt: tuple[tuple[int, str], ...]
    online: str
    before: int | None  # the position of the event behind it
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FindingCard:
    """A finding, and its events: as lanes where they are what is wrong, else as links."""

    found: Found
    lanes: tuple[Event, ...]
    links: tuple[tuple[int, str], ...]  # position and seq


@dataclass(frozen=True)
class ClaimCard:
    """A claim with its findings; and what led to a violation that is one of state."""

    verdict: ClaimVerdict
    findings: tuple[FindingCard, ...]
    course: tuple[Event, ...]


def run_page(record: RunRecord, judgement: Judgement, seconds: float | None = None) -> str:
    """The report of a judged run, as HTML; with how long it took, where that is known."""
    line = timeline(record, judgement)
    visible = shown(line)
    log, cut = _log(line)
    meta = json.loads((record.folder / "run.json").read_text())
    scenario = (record.folder / "scenario.yaml").read_text(errors="replace")
    return (
        _environment()
        .get_template("run.html.j2")
        .render(
            record=record,
            headline=words.headline(judgement),
            verdict=words.worst(judgement.claims),
            sentences=words.explanation(record, judgement),
            claims=[
                _card(claim, line) for claim in sorted(judgement.claims, key=lambda claim: words.rank(claim.verdict))
            ],
            at={id(event): index for index, event in enumerate(line.events)},
            timeline=line,
            drawing=draw(line, visible, judgement),
            width=WIDTH,
            gutter=GUTTER,
            rows=list(_rows(line, visible)),
            left_out=visible.count_left_out,
            left_out_last=_left_out(visible.left_out.get(len(line.events), {})),
            long=len(visible.positions) > _LONG,
            tasks=sorted({task_of(line.events[position]) for position in visible.positions}),
            samples=list(_samples(line)),
            log=log,
            log_cut=cut,
            splats=_splats(record),
            scenario=scenario,
            scenario_data=base64.b64encode(scenario.encode()).decode(),
            qemu=reproduce.qemu_script(record.folder),
            again=reproduce.command_line(reproduce.command(record, f"{record.name.partition('#')[0]}.yaml")),
            versions=list(_versions(meta)),
            beneath=beneath(record.engine, record.host),
            started=meta.get("started", ""),
            seconds=seconds,
        )
    )


def write_report(record: RunRecord, judgement: Judgement, seconds: float) -> None:
    """Writes the report of a run into its folder.

    A page that cannot be drawn must not cost the verdict that it shows: then a note says so.
    """
    try:
        write_output(str(record.folder / REPORT), run_page(record, judgement, seconds))
    except Exception as error:
        progress.note(f"{REPORT} could not be made, which is a bug of the harness: {error!r}")


def index_page(results: Sequence[RunResult], folder: Path, not_run: Sequence[NotRun] = ()) -> str:
    """The index of a batch, as HTML that stands in `folder`: the verdicts, each with a link to its run's report, and
    what the batch did not come to."""
    columns = list(dict.fromkeys(result.column for result in results))
    table: dict[tuple[str, str], dict[str, list[tuple[RunResult, ClaimVerdict]]]] = {}
    for result in results:
        for claim in result.judgement.claims:
            cells = table.setdefault((result.scenario, claim.use.claim.id), {})
            cells.setdefault(result.column, []).append((result, claim))
    claims = [claim for result in results for claim in result.judgement.claims]
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            headline=words.tally(claims) + (f"; {len(not_run)} not run" if not_run else ""),
            verdict=Verdict.HARNESS_FAULT if not_run else words.worst(claims),
            no_news=not not_run and all(claim.as_declared for claim in claims),
            not_run=not_run,
            results=results,
            columns=columns,
            table=table,
            titles={result.scenario: result.title for result in results},
            texts={claim.use.claim.id: claim.use.claim.text for claim in claims},
            link=lambda result: _relative(result.folder / REPORT, folder),
        )
    )


def _relative(path: Path, folder: Path) -> str:
    """A path as a link from `folder`: folders of runs have kernels' names in theirs, with + and #."""
    return quote(os.path.relpath(path.absolute(), folder.absolute()))


# --- claims -----------------------------------------------------------------------------------------------------


def _card(claim: ClaimVerdict, line: Timeline) -> ClaimCard:
    at = {id(event): index for index, event in enumerate(line.events)}
    findings = []
    for found in claim.findings:
        if words.decides(found):
            findings.append(FindingCard(found, found.events, ()))
        else:
            links = {at[id(event)]: _seq(event) for event in found.events if id(event) in at}
            findings.append(FindingCard(found, (), tuple(sorted(links.items()))))
    return ClaimCard(claim, tuple(findings), tuple(words.course(claim, line)))


def _seq(event: Event) -> str:
    return "–" if event.seq is None else str(event.seq)


# --- events -----------------------------------------------------------------------------------------------------


def _rows(line: Timeline, visible: Shown) -> Iterator[Row]:
    log_of = line.log_of
    bands = {cpu: [band for band in line.bands if band.cpu == cpu] for cpu in line.cpus}
    holds = [span for span in line.spans if span.kind == "hold"]
    several = len(line.boots) > 1
    boot = None
    before = -1
    for position in visible.positions:
        event = line.events[position]
        marks = line.marks.get(position, ())
        yield Row(
            position=position,
            seq=_seq(event),
            cpu=event.cpu,
            name=event.name,
            phase=event.phase,
            text=str(event.args.get("text", "")) if event.name == "console" else _said(event),
            task=task_of(event),
            cells=tuple(_cell(cpu, position, bands[cpu], holds, event.cpu == cpu, event.phase) for cpu in line.cpus),
            turns=tuple(_turns(line, bands, before, position)),
            line=log_of.get(position),
            failed=tuple(dict.fromkeys(mark.text for mark in marks if mark.finding is Finding.FAILED)),
            evidence=bool(marks),
            boot=event.boot if several and event.boot != boot else None,
            left_out=_left_out(visible.left_out.get(position, {})),
        )
        boot, before = event.boot, position


_GLYPHS = {
    "call": "→",
    "return": "←",
    "point": "·",
    "begin": "┌",
    "end": "└",
    "held": "■",
    "released": "▶",
    "lost": "×",
}


def _said(event: Event) -> str:
    """An event as the lanes describe it, without the sign, which is in its lane."""
    return describe(event).removeprefix(_GLYPHS[event.phase]).lstrip()


def _cell(cpu: int, position: int, bands: Sequence[Band], holds: Sequence[Span], here: bool, phase: str) -> Cell:
    band = next((band for band in bands if band.first <= position < band.end), None)
    kinds = []
    if band is not None and band.state != "off":
        kinds += [band.state, *(["inferred"] if band.inferred and band.state == "on" else [])]
    if any(hold.cpu == cpu and hold.first <= position <= hold.last for hold in holds):
        kinds.append("held")
    return Cell(cpu, " ".join([*kinds, *(["here"] if here else [])]), _GLYPHS[phase] if here else "")


def _turns(line: Timeline, bands: dict[int, list[Band]], before: int, position: int) -> Iterator[str]:
    """What virtualization turned to between two events that are shown."""
    for cpu in line.cpus:
        for band in bands[cpu]:
            if (
                before < band.first <= position
                and band.first > 0
                and line.events[band.first - 1].boot == line.events[band.first].boot
            ):
                state = "not known" if band.state == "unknown" else band.state
                yield f"CPU {cpu}: virtualization {state}{', it seems' if band.inferred else ''}"


def _left_out(gap: Mapping[str, int]) -> str:
    """How many events of which names are missing; "" for none."""
    if not gap:
        return ""
    kinds = list(gap.items())
    names = ", ".join(f"{count} × {name}" for name, count in kinds[:4])
    more = f", {sum(count for _, count in kinds[4:])} others" if len(kinds) > 4 else ""
    return f"{sum(gap.values())} events left out here: {names}{more}"


# --- samples and log --------------------------------------------------------------------------------------------


def _samples(line: Timeline) -> Iterator[Sampled]:
    for taken in line.samples:
        sample = taken.sample
        half = sample.half_on
        yield Sampled(
            name=sample.name,
            virt=tuple((cpu, "half" if cpu in half else "on" if on else "off") for cpu, on in sample.virt.items()),
            online=", ".join(map(str, sample.online)),
            before=taken.before if taken.before < len(line.events) else None,
            values=tuple(_values(sample.guest)),
        )


_TOLD = ("tainted", "modules", "devices", "hotplug", "parameters")  # of a sample, what a person looks for


def _values(guest: Any) -> Iterator[tuple[str, str]]:
    for name in _TOLD:
        if name in guest:
            yield name, json.dumps(guest[name], ensure_ascii=False).replace('"', "")


@dataclass(frozen=True)
class Log:
    """The kernel log in two parts: what was printed before anything was traced, and the rest."""

    earlier: tuple[LogLine, ...]
    lines: tuple[LogLine, ...]


def _log(line: Timeline) -> tuple[Log, int]:
    """The log, and how many of its oldest lines were left out."""
    first = next((index for index, one in enumerate(line.log) if one.event is not None), 0)
    first = max(0, first - _BOOT_LINES)
    lines = line.log[first:]
    earlier = line.log[:first]
    cut_lines = max(0, len(lines) - _MOST_LOG_LINES)
    room = _MOST_LOG_LINES - len(lines) + cut_lines
    cut = max(0, len(earlier) - room)
    return Log(earlier[cut:], lines[cut_lines:]), cut + cut_lines


def _splats(record: RunRecord) -> dict[int, str]:
    """Line number of a splat's header → its kind."""
    return {splat.line: splat.kind for splat in find_splats(record.console.lines)}


# --- versions -----------------------------------------------------------------------------------------------------


def _versions(meta: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the run was made of, for the table at the end."""
    kernel = meta["kernel"]
    provenance = kernel.get("provenance") or {}
    yield "Kernel", f"{kernel['label']}: {kernel['release']}"
    for package in provenance.get("packages") or ():
        yield "Package", f"{package['name']} {package['version']} ({package['suite']}), sha256 {package['sha256']}"
    for patch in provenance.get("patches") or ():
        yield "Patch", f"{patch['subject']} ({patch['file']}), sha256 {patch['sha256']}"
    for name in ("commit", "describe", "config", "compiler", "kernel_compiler"):
        if isinstance(value := provenance.get(name), str) and value:
            yield name.replace("_", " ").capitalize(), value
    yield "Engine", f"{meta['engine']} ({meta['vendor'].upper()})"
    yield "QEMU", str(meta.get("qemu") or "not recorded")
    if host := meta.get("host"):
        yield "Host", "; ".join(filter(None, (host["cpu"], host["hypervisor"], host["hardware"], host["kernel"])))
    yield "Harness", str(meta.get("harness") or "not recorded")
    if meta.get("preemption"):
        yield "Preemption", str(meta["preemption"])
    if start := meta.get("start"):
        yield "Start", start["how"] + (f" ({start['why']})" if start.get("why") else "")
