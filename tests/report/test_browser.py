"""Pages as a reader has them: in headless Chromium, with its script and without, by day, by night and on paper."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from harness.report.html import REPORT, index_page, write_report
from harness.report.result import RunResult
from tests.report.browser import chromium
from tests.report.run_folders import CONFIRMED, HOSTILE, KNOWN, VIOLATED, copied, hostile, judged, long

PICKED = re.compile(r"\bpicked\b")

pytestmark = pytest.mark.network

WIDE = {"width": 1440, "height": 900}


@dataclass
class Reader:
    """Somebody with a browser, who notes what goes wrong and what the page asks the network for."""

    context: BrowserContext
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: Path) -> Page:
        page = self.context.new_page()
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(path.as_uri())
        return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def reader(browser: Browser) -> Iterator[Callable[..., Reader]]:
    """Makes readers; in the end, none of them may have seen a fault or caused a request."""
    readers: list[Reader] = []

    def make(**options: Any) -> Reader:
        readers.append(Reader(browser.new_context(**{"viewport": WIDE, "reduced_motion": "reduce", **options})))
        return readers[-1]

    yield make
    for one in readers:
        one.context.close()
        assert one.faults == []
        assert [url for url in one.requests if not url.startswith("file://")] == []
        assert len(one.requests) == len(set(one.requests)), "a page loads nothing but itself"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def violated(folder: Path) -> Path:
    return written(copied(VIOLATED, folder / "violated"))


def written(run: Path) -> Path:
    write_report(*judged(run), 21.5)
    return run / REPORT


def shown(rows: Locator) -> int:
    return sum(row.is_visible() for row in rows.all())


_CONTRAST = """selector => {
    const parts = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((value) => value / 255);
    const linear = (c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
    const light = (text) => parts(text).map(linear).reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
    const node = document.querySelector(selector);
    const empty = (one) => getComputedStyle(one).backgroundColor === "rgba(0, 0, 0, 0)";
    let ground = node;
    while (ground.parentElement && empty(ground)) ground = ground.parentElement;
    const [a, b] = [getComputedStyle(node).color, getComputedStyle(ground).backgroundColor].map(light);
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
}"""


def contrast(page: Page, selector: str) -> float:
    """The contrast of a text with what is behind it, as WCAG 2 has it."""
    return float(page.evaluate(_CONTRAST, selector))


def test_the_verdict_is_on_the_first_screen_in_words(violated: Path, reader: Callable[..., Reader]) -> None:
    page = reader().open(violated)
    assert page.title().startswith("Violated: reboot -f while kvm_intel is loading")
    heading = page.locator("h1")
    box = heading.bounding_box()
    assert "Violated" in heading.inner_text() and box is not None and box["y"] < 200
    assert page.get_by_text("virtualization on at before-reset: CPU 0, 1, 2, 3; expected: none").first.is_visible()
    assert page.get_by_text("21.5 s").is_visible()


def test_lanes_have_bands_holds_calls_steps_samples_and_the_violation(
    violated: Path, reader: Callable[..., Reader]
) -> None:
    page = reader().open(violated)
    count = {
        name: page.locator(f"#lanes {selector}").count()
        for name, selector in {
            "lanes": "g.lane",
            "on": ".bands rect.on",
            "holds": ".holds rect.hold",
            "calls": ".calls rect",
            "steps": ".steps rect",
            "samples": ".sample",
            "violations": ".violation",
        }.items()
    }
    assert count == {"lanes": 4, "on": 4, "holds": 2, "calls": 6, "steps": 2, "samples": 2, "violations": 5}
    band = page.locator("#lanes .bands rect.on").first
    assert band.evaluate("node => getComputedStyle(node).fill") != "rgb(0, 0, 0)"


def test_zooming_spreads_events_and_panning_moves_them(violated: Path, reader: Callable[..., Reader]) -> None:
    page = reader().open(violated)
    first, second = (page.locator(f"#lanes .ev[data-e='{position}']") for position in (6, 10))

    def place(spot: Locator) -> float:
        return float(spot.evaluate("node => node.transform.baseVal[0].matrix.e"))

    before = place(second) - place(first)
    page.locator("#lanes").focus()
    page.keyboard.press("+")
    assert place(second) - place(first) == pytest.approx(2 * before, rel=0.01)
    was = place(first)
    page.keyboard.press("ArrowRight")
    assert place(first) < was
    box = page.locator("#lanes").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    was = place(first)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 100, y, steps=3)
    page.mouse.up()
    assert place(first) > was and "#" not in page.url
    page.get_by_role("button", name="All", exact=True).click()
    assert place(second) - place(first) == pytest.approx(before, rel=0.01)
    assert "zoomed" not in (page.locator("#lanes").get_attribute("class") or "")


def test_hovering_tells_what_an_event_is(violated: Path, reader: Callable[..., Reader]) -> None:
    page = reader().open(violated)
    tip = page.locator("#tip")
    assert not tip.is_visible()
    page.locator("#lanes .ev[data-e='8'] .hit").hover(force=True)
    assert tip.is_visible()
    text = tip.inner_text()
    assert "vmxon pa=0x2fbf1000" in text and "CPU 0" in text and "cpuhp/0-24" in text
    page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_the_filter_hides_rows_and_fades_the_lanes(violated: Path, reader: Callable[..., Reader]) -> None:
    page = reader().open(violated)
    rows = page.locator("#rows tbody tr[id]")
    whole = shown(rows)
    page.get_by_label("Name", exact=True).fill("vmxon")
    assert shown(rows) == 4 and page.locator("#count").inner_text() == f"4 of {whole}"
    assert page.locator("#lanes .ev.off").count() > 0
    page.get_by_label("CPU", exact=True).select_option("2")
    assert shown(rows) == 1
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("() => document.querySelectorAll('#rows tr[hidden]').length === 0")
    page.get_by_label("Task", exact=True).select_option("guestctl-178")
    tasks = {row.get_attribute("data-task") for row in rows.all() if row.is_visible()}
    assert tasks == {"guestctl-178"}
    page.get_by_label("only evidence").check()
    assert shown(rows) < whole


def test_an_event_and_its_log_line_find_each_other(violated: Path, reader: Callable[..., Reader]) -> None:
    page = reader().open(violated)
    row = page.locator("#rows tr", has_text="reboot: Restarting system")
    clock = row.locator("a.clock")
    line = page.locator(f"#log {clock.get_attribute('href')}")
    assert "reboot: Restarting system" in line.inner_text()
    clock.click()
    expect(line).to_have_class(PICKED)  # a link's target is picked when the browser tells that it went there
    expect(row).to_have_class(PICKED)
    other = page.locator("#log li", has_text="harness: begin load").last
    other.locator("a.clock").click()
    picked = page.locator("#rows tr.picked")
    expect(picked).to_contain_text("harness: begin load")
    expect(picked).to_have_count(1)
    # An event that printed nothing shows the message before it.
    page.locator("#rows tr", has_text="vmxon").first.locator("td.task").click()
    expect(page.locator("#log li.picked")).to_have_count(1)


def test_a_spot_in_the_lanes_leads_to_its_row(violated: Path, reader: Callable[..., Reader]) -> None:
    page = reader().open(violated)
    page.locator("#lanes .ev[data-e='8'] .hit").click(force=True)
    assert page.url.endswith("#e8")
    expect(page.locator("#e8")).to_have_class(PICKED)
    assert page.locator("#e8").evaluate(
        "node => { const b = node.getBoundingClientRect(); return b.top >= 0 && b.bottom <= innerHeight; }"
    )


def test_without_its_script_the_page_says_the_same(
    violated: Path, reader: Callable[..., Reader], folder: Path
) -> None:
    page = reader(java_script_enabled=False).open(violated)
    for control in ("#filter", "#zoom", "#tip"):
        assert not page.locator(control).is_visible()
    for words in ("Violated", "load gave OK, not EBUSY", "held at in-window", "harness run reboot-in-flight.yaml"):
        assert page.get_by_text(words).first.is_visible(), words
    assert page.locator("#lanes .label:visible").count() > 10
    assert page.locator("#lanes .ev title").count() > 20
    page.locator("#rows tr", has_text="reboot: Restarting system").locator("a.clock").click()
    assert "#l" in page.url
    assert len(page.screenshot(path=folder / "no-script.png", full_page=True)) > 50_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_by_day_and_by_night(
    violated: Path, reader: Callable[..., Reader], scheme: str, folder: Path
) -> None:
    page = reader(color_scheme=scheme).open(violated)
    ground = page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
    for selector in (
        "body",
        "h1",
        ".note",
        ".pill",
        ".findings .failed p",
        ".source",
        "#rows .task",
        ".turn",
        ".log a.clock",
    ):
        assert contrast(page, selector) >= 4.5, selector
    page.screenshot(path=folder / f"{scheme}.png", full_page=True)


def test_a_narrow_page_does_not_scroll_sideways(violated: Path, reader: Callable[..., Reader]) -> None:
    page = reader(viewport={"width": 390, "height": 800}).open(violated)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".lanes").evaluate("node => node.scrollWidth > node.clientWidth")


def test_paper_has_everything_but_the_controls(violated: Path, reader: Callable[..., Reader], folder: Path) -> None:
    page = reader(color_scheme="dark").open(violated)
    page.emulate_media(media="print")
    assert page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(255, 255, 255)"
    for control in ("nav", "#filter", "#zoom"):
        assert not page.locator(control).is_visible()
    assert page.locator("#rows tbody tr").last.is_visible() and page.locator("#log li").last.is_visible()
    assert page.locator(".logpane").evaluate("node => node.scrollHeight <= node.clientHeight + 1")
    page.screenshot(path=folder / "print.png", full_page=True)
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_all_can_be_reached_by_keyboard(violated: Path, reader: Callable[..., Reader]) -> None:
    page = reader().open(violated)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the claims"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('class') || ''"))
    assert "lanes" in reached and "violation" in reached
    names = page.locator("#lanes a[tabindex='-1']").count()
    assert names > 20, "of many events, those of a verdict are enough to tab through"


def test_what_is_hostile_does_nothing(folder: Path, reader: Callable[..., Reader]) -> None:
    page = reader().open(written(hostile(folder / "hostile")))
    assert page.title() != "pwned"
    assert page.locator("body > img, body img").count() == 0
    assert page.get_by_text(HOSTILE).first.is_visible()
    page.get_by_label("Task", exact=True).select_option(f"{HOSTILE}-7")
    assert shown(page.locator("#rows tbody tr[id]")) == 2
    page.locator("#lanes .ev.print .hit").last.hover(force=True)
    assert HOSTILE in page.locator("#tip").inner_text()


def test_a_long_run_stays_usable(folder: Path, reader: Callable[..., Reader]) -> None:
    page = reader().open(written(long(folder / "long")))
    assert page.locator("#rows tbody tr[id]").count() == 2000
    assert page.get_by_text("events left out here").first.is_visible()
    spent = page.evaluate(
        """() => {
            const begin = performance.now();
            document.querySelector("[data-zoom=in]").click();
            const name = document.querySelector("#filter [name=name]");
            name.value = "cr4";
            name.dispatchEvent(new Event("input", { bubbles: true }));
            document.body.getBoundingClientRect();
            return performance.now() - begin;
        }"""
    )
    assert spent < 2000, "milliseconds; 150 on an idle machine"


def test_the_index_leads_to_the_claims_of_each_run(folder: Path, reader: Callable[..., Reader]) -> None:
    names = {"first": CONFIRMED, "with + and # in it": KNOWN}
    runs = [copied(recorded, folder / name) for name, recorded in names.items()]
    for run in runs:
        written(run)
    results = [RunResult.of(*judged(run), 1.0) for run in runs]
    batch = folder / "batch"
    batch.mkdir()
    (batch / "index.html").write_text(index_page(results, batch))
    page = reader().open(batch / "index.html")
    assert "as declared" in page.locator("h1").inner_text()
    page.locator("a", has_text="violated").first.click()
    assert page.url.endswith("/report.html#claim-system-state-before-kvm-shutdown")
    assert page.locator("#claim-system-state-before-kvm-shutdown").is_visible()


def test_a_reader_notices_faults_and_requests(tmp_path: Path, browser: Browser) -> None:
    (tmp_path / "bad.html").write_text("<script>nothing()</script><img src='http://127.0.0.1:9/x.png'>")
    one = Reader(browser.new_context())
    one.open(tmp_path / "bad.html")
    assert any("nothing" in fault for fault in one.faults)
    assert json.dumps(one.requests).count("127.0.0.1:9") == 1
    one.context.close()
