"""Pages as text: whole, self-contained, and escaped. What a browser makes of them is in test_browser.py."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness import progress
from harness.report.html import INDEX, index_page, linked, run_page, write_report
from harness.report.result import RunResult
from tests.report.run_folders import (
    CONFIRMED,
    HOSTILE,
    KNOWN,
    RUNS,
    VIOLATED,
    copied,
    hostile,
    judged,
    long,
    recorded,
)

_VOID = {"meta", "input", "br", "img", "link", "hr", "col"}


class Page(HTMLParser):
    """A page's elements, with their attributes; and whether each is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.faults: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.faults += [f"{tag} is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()} closes nothing")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def ids(self) -> list[str]:
        return [ident for _, attrs in self.elements if (ident := attrs.get("id"))]


def page(name: str) -> Page:
    return Page(run_page(*recorded(name)))


@pytest.mark.parametrize("name", RUNS)
def test_a_page_is_well_formed_and_its_links_lead_somewhere(name: str) -> None:
    found = page(name)
    assert found.faults == []
    ids = found.ids()
    assert len(ids) == len(set(ids)), "an id stands twice"
    for _, attrs in found.elements:
        target = attrs.get("href") or ""
        if target.startswith("#"):
            assert target[1:] in ids, target
        for part in (attrs.get("aria-labelledby") or "").split():
            assert part in ids


def test_the_parser_finds_faults() -> None:
    assert Page("<p><b></p></b>").faults and Page("<p>").faults and not Page("<p><br></p>").faults


@pytest.mark.parametrize("name", RUNS)
def test_a_page_loads_nothing(name: str) -> None:
    text = run_page(*recorded(name))
    for tag, attrs in Page(text).elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base"), tag
        assert "src" not in attrs and "srcset" not in attrs
    assert not re.search(r"@import|url\((?!#)", text)


@pytest.mark.parametrize("name", RUNS)
def test_every_claim_is_there_with_verdict_text_source_and_findings(name: str) -> None:
    text = page(name).text
    _, judgement = recorded(name)
    for claim in judgement.claims:
        assert claim.use.claim.id in text and claim.verdict.value in text
        for said in (claim.use.claim.text, *(found.text for found in claim.findings)):
            assert " ".join(said.split()) in text
    record, _ = recorded(name)
    assert record.scenario.title in text and str(record.kernel["release"]) in text


def test_what_is_hostile_stays_text(tmp_path: Path) -> None:
    folder = hostile(tmp_path / "run")
    text = run_page(*judged(folder))
    found = Page(text)
    assert found.faults == []
    assert [tag for tag, _ in found.elements].count("script") == 1
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in found.elements)
    # In the log, as a task, an argument, the title, the kernel, the QEMU command, the fault.
    assert found.text.count(HOSTILE) >= 8
    data = {attrs.get("data-task") for _, attrs in found.elements}
    assert f"{HOSTILE}-7" in data
    assert Page(index_page([RunResult.of(*judged(folder), 1.0)], tmp_path)).faults == []


def test_the_violating_events_and_cpus_are_marked() -> None:
    found = page(VIOLATED)
    violations = [attrs for _, attrs in found.elements if attrs.get("class") == "violation"]
    assert len(violations) == 5  # the end of the load, and the four CPUs in the sample
    assert "✗2 virtualization on at before-reset: CPU 0, 1, 2, 3; expected: none" in found.text
    rows = [attrs for tag, attrs in page(KNOWN).elements if tag == "tr" and "failed" in (attrs.get("class") or "")]
    assert any(attrs.get("data-name") == "kvm_reboot" for attrs in rows)
    confirmed = page(CONFIRMED).elements
    assert not [attrs for _, attrs in confirmed if "failed" in (attrs.get("class") or "").split()]


def test_virtualization_is_said_in_words_where_it_changes() -> None:
    text = page(CONFIRMED).text
    for cpu in range(4):
        assert f"CPU {cpu}: virtualization on" in text and f"CPU {cpu}: virtualization off" in text


def test_the_command_repeats_the_run_with_the_saved_scenario() -> None:
    found = page(VIOLATED)
    (saved,) = (attrs for _, attrs in found.elements if "download" in attrs)
    assert saved["download"] == "reboot-in-flight.yaml"
    command = "harness run reboot-in-flight.yaml --kernel 'debian:6.12 +check-before-register' --engine tcg-vmx"
    assert command in found.text


def test_a_long_run_says_what_it_leaves_out(tmp_path: Path) -> None:
    folder = long(tmp_path / "run")
    text = run_page(*judged(folder))
    found = Page(text)
    rows = [ident for ident in found.ids() if re.fullmatch(r"e\d+", ident)]
    assert len(rows) == 2000
    whole = len((folder / "events.jsonl").read_text().splitlines())
    assert f"{whole - 2000} of {whole} are left out here" in found.text
    counts = map(int, re.findall(r"(\d+) events left out here", found.text))
    assert sum(counts) == whole - 2000
    assert len(text) < 3_000_000


def test_a_run_that_ended_before_anything_happened_has_a_page(tmp_path: Path) -> None:
    folder = copied(VIOLATED, tmp_path / "run")
    for name in ("events.jsonl", "samples.jsonl", "steps.jsonl", "console.log"):
        (folder / name).unlink()
    run = json.loads((folder / "run.json").read_text())
    run["fault"] = {"type": "HostFault", "exit": 3, "text": "QEMU cannot be started\n  try: run `harness doctor`"}
    (folder / "run.json").write_text(json.dumps(run | {"holds": []}))
    found = Page(run_page(*judged(folder)))
    assert found.faults == []
    assert "No verdict: the harness failed" in found.text and "The kernel is not to blame." in found.text
    assert "try: run `harness doctor`" in found.text


def test_a_page_that_cannot_be_drawn_costs_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    monkeypatch.setattr(progress, "note", notes.append)
    record, judgement = judged(copied(CONFIRMED, tmp_path / "run"))
    (record.folder / "scenario.yaml").unlink()
    write_report(record, judgement, 1.0)
    assert "report.html could not be made" in notes[0]


def test_an_index_has_a_verdict_per_claim_and_kernel_that_leads_to_the_page(tmp_path: Path) -> None:
    results = [RunResult.of(*recorded(name), 1.0) for name in (VIOLATED, "reboot-in-flight-6.12-confirmed", KNOWN)]
    found = Page(index_page(results, results[0].folder.parent))
    assert found.faults == []
    links = [attrs["href"] for tag, attrs in found.elements if tag == "a"]
    assert f"{VIOLATED}/report.html#claim-reboot-in-flight-undone" in links
    assert "reboot -f while kvm_intel is loading" in found.text and "✗ violated" in found.text
    assert "(known)" in found.text
    elsewhere = index_page(results, tmp_path / INDEX)
    assert f"tests/recorded/{VIOLATED}/report.html" in elsewhere


def test_an_index_of_what_was_declared_alarms_nobody(tmp_path: Path) -> None:
    known, news = (RunResult.of(*recorded(name), 1.0) for name in (KNOWN, VIOLATED))
    assert '<header class="top violated no-news">' in index_page([known], tmp_path)
    assert '<header class="top violated">' in index_page([known, news], tmp_path)


def test_commits_messages_and_addresses_are_links() -> None:
    text = str(linked('commit e0ceec221f62 "<b>", 20260214012702.2368778-1-seanjc@google.com, https://a.b/c?d=1&e.'))
    assert '<a href="https://git.kernel.org/linus/e0ceec221f62">e0ceec221f62</a>' in text
    assert '<a href="https://lore.kernel.org/r/20260214012702.2368778-1-seanjc@google.com">' in text
    assert '<a href="https://a.b/c?d=1&amp;e">https://a.b/c?d=1&amp;e</a>.' in text
    assert "&lt;b&gt;" in text
    assert "<a" not in str(linked("virt/kvm/kvm_main.c: kvm_enable_virtualization() (6.12, 7.3)"))
