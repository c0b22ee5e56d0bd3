"""The report in a real browser: keys, links, narrow screens and large logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import report
from harness.model.verdict import BootResult, Verdict

from .. import samples
from ..browser import Page, open_browser

BAD = "boot-web-3-1"
GUILTY = f"#{BAD}-L{samples.GUILTY_LINE}"
_POINTED = """(() => {
    const line = document.querySelector(".target"), pane = document.getElementById("pane").getBoundingClientRect();
    const seen = line?.getBoundingClientRect();
    const isSeen = line && seen.top >= Math.max(0, pane.top) && seen.bottom <= Math.min(innerHeight, pane.bottom);
    return isSeen && document.activeElement === line ? line.textContent : "";
})()"""
"""The text of the line that a link points to, once it is visible and focused."""

Show = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with open_browser() as page:
        yield page


@pytest.fixture
def show(browser: Page, tmp_path: Path) -> Iterator[Show]:
    """``show(verdict, "#fragment")`` opens the report on a run in ``tmp_path``; the browser must print no errors."""

    def show(verdict: Verdict, fragment: str = "", *, width: int = 1280) -> Page:
        path = report.write_page(verdict, tmp_path, promoted=samples.promoted(tmp_path), trends=samples.TRENDS)
        browser.resize(width, 900)
        browser.open(path.as_uri() + fragment)
        browser.wait_for(f"document.readyState === 'complete' && location.href.endsWith({fragment or report.PAGE!r})")
        return browser

    browser.complaints.clear()
    yield show
    assert browser.complaints == []


@pytest.fixture
def verdict(tmp_path: Path) -> Verdict:
    return samples.run(tmp_path)


def shown(page: Page) -> str:
    text: str = page.evaluate("document.getElementById('log').value")
    return text


def test_a_link_to_a_line_opens_its_log_there(show: Show, verdict: Verdict) -> None:
    page = show(verdict, GUILTY)

    assert samples.EVIDENCE[-1] in page.wait_for(_POINTED)
    assert shown(page) == BAD
    assert page.evaluate("document.querySelector('.target').classList.contains('guilty')")


def test_a_finding_leads_to_its_line_however_often_it_is_followed(show: Show, verdict: Verdict) -> None:
    page = show(verdict)

    for _ in range(2):
        page.evaluate(f"scrollTo(0, 0); document.querySelector('#findings a[href=\"{GUILTY}\"]').click()")
        assert samples.EVIDENCE[-1] in page.wait_for(_POINTED)


def test_a_finding_shows_the_display_and_its_boot_the_network(show: Show, verdict: Verdict) -> None:
    page = show(verdict)

    page.wait_for("document.querySelector('.finding .display img').naturalWidth === 720")
    assert page.evaluate("document.querySelector('.finding .display img').getBoundingClientRect().width") > 600
    page.evaluate("document.querySelectorAll('.boot').forEach((boot) => boot.open = true)")
    assert samples.NETWORK[-1] in page.evaluate("document.querySelector('#boots').innerText")
    assert page.evaluate("document.querySelector('#boots a[href$=pcap]').href").endswith("/capture.pcap")


def test_a_search_by_keys_alone_finds_a_line_and_jumps_to_it(show: Show, verdict: Verdict) -> None:
    page = show(verdict)

    page.press("/")
    page.type("no SPACE left")
    page.wait_for("document.getElementById('found').textContent === '1 line'")
    assert page.evaluate("document.querySelector('#hits mark').textContent") == "No space left"
    page.press("Enter")

    assert samples.EVIDENCE[-1] in page.wait_for(_POINTED)
    assert shown(page) == BAD


def test_a_search_counts_lines_in_all_logs_once_each(show: Show, verdict: Verdict, tmp_path: Path) -> None:
    for number in (0, 1):
        console = tmp_path / f"web-{number}" / "boot-1" / "console.log"
        console.write_text(f"needle needle\n\n{'x' * 999}\nno\nneedle.*({number}", "utf-8")
    page = show(verdict)

    page.evaluate("document.getElementById('query').focus()")
    page.type("needle")
    page.wait_for("document.getElementById('found').textContent === '4 lines'")
    numbers = "[...document.querySelectorAll('#hits b')].map((number) => number.textContent).join()"
    assert page.evaluate(numbers) == "1,5,1,5"
    page.type(".*(1")
    page.wait_for("document.getElementById('found').textContent === '1 line'")
    assert page.evaluate(numbers) == "5"


def test_the_log_that_is_shown_first_is_a_guilty_one(show: Show, verdict: Verdict) -> None:
    page = show(verdict)

    page.evaluate("document.getElementById('console').scrollIntoView()")
    page.wait_for("document.querySelectorAll('.line.guilty').length === 2")
    page.evaluate("document.getElementById('next').click()")
    assert samples.EVIDENCE[0] in page.wait_for(_POINTED)
    page.evaluate("document.getElementById('next').click()")
    page.wait_for(f"location.hash === '{GUILTY}'")


def test_nothing_that_a_guest_prints_is_run(show: Show, verdict: Verdict, tmp_path: Path) -> None:
    evil = "</script><script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"
    (tmp_path / "web-3" / "boot-1" / "console.log").write_text(f"{evil}\n", "utf-8")
    page = show(verdict, f"#{BAD}-L1")

    assert evil in page.wait_for(_POINTED)
    page.evaluate("document.getElementById('query').focus()")
    page.type("onerror")
    page.wait_for("document.querySelectorAll('#hits mark').length === 1")
    assert page.evaluate("document.title") == "Failed: nova-kvm 2026.11"


@pytest.mark.parametrize("number", [1, 40_000, 90_000])
def test_any_line_of_a_large_log_can_be_shown(show: Show, tmp_path: Path, number: int) -> None:
    boot: BootResult = samples.boot(tmp_path, 0, "direct", lines=90_000)
    assert Path(boot.console).stat().st_size > 5_000_000
    page = show(samples.verdict((boot,)), f"#boot-web-0-1-L{number}")

    assert f"[{number * 0.1:8.2f}]" in page.wait_for(_POINTED)
    assert page.evaluate("document.querySelectorAll('.line').length") < 5000


@pytest.mark.parametrize("width", [390, 768])
def test_a_narrow_screen_needs_no_scrolling_to_the_side(show: Show, verdict: Verdict, width: int) -> None:
    page = show(verdict, GUILTY, width=width)
    page.wait_for(_POINTED)
    page.evaluate("document.querySelectorAll('details').forEach((details) => details.open = true)")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.getElementById('pane').scrollWidth <= document.getElementById('pane').clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(show: Show, verdict: Verdict, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    page = show(verdict)
    page.resize(1280, 900, scheme=scheme)

    assert page.evaluate("""(() => {
        const style = getComputedStyle(document.documentElement);
        const light = (name) => {
            const part = style.getPropertyValue(name).match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16) / 255)
                .map((value) => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4);
            return .2126 * part[0] + .7152 * part[1] + .0722 * part[2];
        };
        const ratio = (one, two) => (Math.max(one, two) + .05) / (Math.min(one, two) + .05);
        const pairs = ["--ink", "--muted", "--link", "--good", "--bad", "--doubt"].flatMap((ink) =>
            ["--paper", "--card", "--sunk"].map((ground) => [ink, ground, ratio(light(ink), light(ground))]));
        return pairs.filter(([, , ratio]) => ratio < 4.5).map(String);
    })()""") == []  # fmt: skip


def test_without_javascript_all_but_the_logs_is_there(show: Show, verdict: Verdict, browser: Page) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        text = show(verdict).evaluate("document.body.innerText")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)

    assert "need JavaScript" in text
    assert samples.EVIDENCE[-1] in text
    assert "Search all" not in text


def test_a_hundred_machines_with_large_logs_are_searched(show: Show, tmp_path: Path) -> None:
    """The time until it is painted is a row of ``make bench``."""
    page = show(samples.run(tmp_path, machines=100, lines=7_400))

    page.evaluate("document.getElementById('query').focus()")
    page.type("no space left")
    page.wait_for("document.getElementById('found').textContent === '14 lines'")
    page.type(" or right")
    page.wait_for("document.getElementById('found').textContent === '0 lines'")
    page.evaluate("document.getElementById('query').select()")
    page.type("probed")
    page.wait_for("document.getElementById('found').textContent.endsWith('the first 500 are shown')")
