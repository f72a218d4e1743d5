"""The page in headless Chromium: it opens offline, sorts, filters, compares, draws, and nothing jumps."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fvnet_mm.report.leaderboard.model import Leaderboard, Row, Table
from fvnet_mm.report.leaderboard.page import render_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")

# Adds up how far things moved, from the first paint on.
OBSERVE_SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => list.getEntries().forEach((entry) => { window.shift += entry.value; }))
  .observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def show(browser: "playwright.Browser", tmp_path: Path) -> Iterator[Callable[..., "playwright.Page"]]:
    """Opens the page of a leaderboard from a file; afterwards nothing may have been complained about or fetched."""
    complaints: list[str] = []
    contexts = []

    def open_page(leaderboard: Leaderboard, width: int = 1280, **options: object) -> "playwright.Page":
        file = tmp_path / "index.html"
        file.write_text(render_page(leaderboard), encoding="utf-8")
        contexts.append(browser.new_context(viewport={"width": width, "height": 844}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: note_request(request.url))
        page.add_init_script(OBSERVE_SHIFTS)
        page.goto(file.as_uri())
        if leaderboard.tables:
            page.locator(".rows.dataTable").first.wait_for()
        return page

    def note_request(url: str) -> None:
        if urlsplit(url).scheme not in ("file", "blob", "data"):
            complaints.append(f"request: {url}")

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def shown_names(page: "playwright.Page", table: str = "table-0-measured") -> list[str]:
    return page.locator(f"#{table} tbody .record").all_inner_texts()


def points(page: "playwright.Page", name: str, axis: str) -> list[float]:
    """Coordinates of a series in the first plot."""
    page.locator(".plot .main-svg").first.wait_for()
    return page.evaluate(
        "([name, axis]) => document.querySelector('.plot').data.find((trace) => trace.name === name)[axis]",
        [name, axis],
    )


def test_sorts_and_filters(show: Callable[..., "playwright.Page"], leaderboard: Leaderboard) -> None:
    page = show(leaderboard)
    rows = leaderboard.tables[0].rows
    assert shown_names(page) == [row.label for row in rows]
    head = page.locator("#table-0-measured thead th", has_text="trunk, M")
    head.click()
    playwright.expect(head).to_have_attribute("aria-sort", "ascending")
    assert shown_names(page) == [row.label for row in sorted(rows, key=lambda row: row.parameters[0])]
    head.click()
    playwright.expect(head).to_have_attribute("aria-sort", "descending")
    score = page.locator("#table-0-measured thead th", has_text="AP_S")
    score.get_by_role("button").focus()
    page.keyboard.press("Enter")
    playwright.expect(score).to_have_attribute("aria-sort", "descending")
    assert shown_names(page) == [row.label for row in sorted(rows, key=lambda row: -row.metrics["AP_S"].mean)]

    page.locator("[data-filters='table-0-measured']").fill("fvnet")
    assert sorted(shown_names(page)) == ["FVNet-L", "FVNet-M", "FVNet-S", "FVNet-T"]
    assert page.locator("[data-counts='table-0-measured']").inner_text() == "4 of 8 rows"
    assert len(shown_names(page, "table-1-measured")) == 2
    page.locator("[data-filters='table-0-measured']").fill("no such trunk")
    assert "no row matches the filter" in page.locator("#table-0-measured tbody").inner_text()

    head = page.locator("#table-1-measured thead th", has_text="trunk, M")
    for direction in ("ascending", "descending"):  # what is unknown comes last both ways
        head.click()
        playwright.expect(head).to_have_attribute("aria-sort", direction)
        assert shown_names(page, "table-1-measured")[0] == "FVNet-S"


def test_two_rows_are_compared_class_by_class(show: Callable[..., "playwright.Page"], leaderboard: Leaderboard) -> None:
    page = show(leaderboard)
    first, second = leaderboard.tables[0].rows[2], leaderboard.tables[0].rows[5]
    page.get_by_label(f"Compare {first.label} class").first.check()
    assert "tick another row" in page.locator("#picked").inner_text()
    page.get_by_label(f"Compare {second.label} class").first.check()
    page.get_by_text("Show differences").click()
    gaps = {name: first.per_class[name]["AP"] - second.per_class[name]["AP"] for name in first.per_class}
    lines = page.locator("#comparison .differences").nth(1).locator("tbody tr")
    assert lines.locator("th").all_inner_texts() == sorted(gaps, key=gaps.get, reverse=True)
    shown = [float(text.replace("−", "-")) for text in lines.locator("td:nth-of-type(3)").all_inner_texts()]
    assert shown == pytest.approx(sorted(gaps.values(), reverse=True), abs=0.0051)
    better = sum(gap > 0 for gap in gaps.values())
    assert f"better than {second.label} in {better} of the {len(gaps)}" in page.locator("#verdict").inner_text()
    overall = page.locator("#comparison .differences").nth(0).locator("tbody th").all_inner_texts()
    assert overall == list(first.metrics)
    page.locator("#swap").click()
    assert lines.locator("th").all_inner_texts() == sorted(gaps, key=gaps.get)
    page.locator("#picked button").click()
    assert not page.locator("#picked").is_visible()

    boxes = page.locator("#table-0-measured input[type=checkbox]")
    for index in range(3):  # the third takes the place of the first
        boxes.nth(index).check()
    assert [boxes.nth(index).is_checked() for index in range(3)] == [False, True, True]
    chosen = [page.locator(f"#{name} option:checked").inner_text() for name in ("first", "second")]
    assert chosen == [row.label for row in leaderboard.tables[0].rows[1:3]]
    assert page.locator("#comparison .problems").count() == 0
    page.locator("#table-1-measured input[type=checkbox]").first.check()
    assert "differ in pretraining" in page.locator("#comparison .problems").inner_text()


def test_plot_follows_the_choice_and_shows_records(
    show: Callable[..., "playwright.Page"], leaderboard: Leaderboard
) -> None:
    page = show(leaderboard)
    rows = leaderboard.tables[0].rows
    figure = page.locator("figure.chart").first
    figure.scroll_into_view_if_needed()
    assert points(page, "measured", "x") == pytest.approx([row.parameters[0] for row in rows])
    assert len(points(page, "published", "x")) == 3
    front = points(page, "Pareto front", "y")
    assert front == sorted(front)
    figure.locator(".cost-choice").select_option("latency")
    assert points(page, "measured", "x") == pytest.approx([row.latency_ms for row in rows])
    assert "NVIDIA Example 9000" in figure.locator("figcaption").inner_text()
    figure.locator(".metric-choice").select_option("AP_L")
    assert points(page, "measured", "y") == pytest.approx([row.metrics["AP_L"].mean for row in rows], abs=1e-4)

    best = rows[0]
    place = page.evaluate(
        """() => {
          const plot = document.querySelector(".plot");
          const [trace, { xaxis, yaxis }] = [plot.data.find(({ name }) => name === "measured"), plot._fullLayout];
          const { left, top } = plot.getBoundingClientRect();
          return [left + xaxis._offset + xaxis.d2p(trace.x[0]), top + yaxis._offset + yaxis.d2p(trace.y[0])];
        }"""
    )
    page.mouse.move(place[0] - 3, place[1])
    page.mouse.move(*place)
    hover = page.locator(".plot .hovertext")
    hover.wait_for()
    assert best.label in hover.text_content()
    assert best.runs[0].record in hover.text_content()
    page.mouse.click(*place)
    dialog = page.locator("#record")
    assert dialog.locator("h2").inner_text() == best.label
    for run in best.runs:
        assert run.record in dialog.inner_text()
        assert run.checkpoint_sha256 in dialog.inner_text()
    dialog.locator(".protocol summary").click()
    assert "MultiStepLR 8 11" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    page.locator("#table-0-measured .record").nth(1).click()
    assert dialog.locator("h2").inner_text() == rows[1].label


def test_light_and_dark(show: Callable[..., "playwright.Page"], leaderboard: Leaderboard) -> None:
    def lightness() -> list[float]:
        colours = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        return [sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in colours]

    def wait_for_ink(colour: str) -> None:
        page.wait_for_function(f"document.querySelector('.plot').layout.font.color {colour}")

    page = show(leaderboard, color_scheme="dark")
    page.locator("figure.chart").first.scroll_into_view_if_needed()
    points(page, "measured", "x")
    ink = page.evaluate("document.querySelector('.plot').layout.font.color")
    assert lightness()[0] < 0.3
    assert lightness()[1] > 0.8
    page.emulate_media(color_scheme="light")
    assert lightness()[0] > 0.9
    assert lightness()[1] < 0.3
    wait_for_ink(f"!== '{ink}'")
    page.locator("#theme").click()
    assert lightness()[0] < 0.3
    wait_for_ink(f"=== '{ink}'")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_jumps_overflows_or_overlaps(
    show: Callable[..., "playwright.Page"], leaderboard: Leaderboard, table: Callable[..., Table], width: int
) -> None:
    long = table("A title_that_is_long_and_has_hardly_a_place_to_break_it_" * 3)
    page = show(leaderboard.model_copy(update={"tables": (*leaderboard.tables, long)}), width)
    for figure in page.locator("figure.chart").all():
        figure.scroll_into_view_if_needed()
        figure.locator("figcaption", has_text="against").wait_for()
    assert page.evaluate("window.shift") < 0.01
    names = page.evaluate(
        """Array.from(document.querySelector(".plot").querySelectorAll(".textpoint text"), (text) => {
          const { left, top, right, bottom } = text.getBoundingClientRect();
          return [text.textContent, left, top, right, bottom];
        })"""
    )
    names = [name for name in names if name[0]]
    assert len(names) >= 6
    for index, (one, left, top, right, bottom) in enumerate(names):
        for other, *box in names[:index]:
            assert right <= box[0] or box[2] <= left or bottom - 2 <= box[1] or box[3] - 2 <= top, (one, other)
    for summary in page.locator("summary").all():
        summary.click()
    page.locator("#table-0-measured thead th", has_text="AP50").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    scroller = page.locator(".scroller:has(#table-0-measured)")
    assert scroller.evaluate("(element) => element.scrollWidth > element.clientWidth")
    name = page.locator("#table-0-measured tbody th").first
    left = name.bounding_box()["x"]
    scroller.evaluate("(element) => { element.scrollLeft = 1000; }")
    assert 0 <= name.bounding_box()["x"] <= left  # the name stays in sight


def test_many_rows_and_evil_names(
    show: Callable[..., "playwright.Page"], table: Callable[..., Table], row: Callable[..., Row]
) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    rows = (row(0, label=evil, note=evil, per_class={evil: {"AP": 99.0}}), *(row(index) for index in range(1, 100)))
    page = show(Leaderboard(suite_version="1", tables=(table(evil, rows),), problems=(evil,)))
    page.locator("#table-0-measured thead th", has_text="AP50").click()
    assert len(shown_names(page)) == 100
    page.locator("[data-filters='table-0-measured']").fill("onerror")
    assert shown_names(page) == [evil]
    page.locator("#table-0-measured input[type=checkbox]").check()
    page.locator("#table-0-measured .record").click()
    assert page.locator("#record h2").inner_text() == evil
    page.keyboard.press("Escape")
    page.locator("figure.chart").scroll_into_view_if_needed()
    page.locator("figcaption", has_text="against").wait_for()


def test_pages_of_little(
    show: Callable[..., "playwright.Page"], table: Callable[..., Table], row: Callable[..., Row]
) -> None:
    assert "No run with a result was found." in show(Leaderboard(suite_version="1", tables=())).inner_text("main")
    alone = table(rows=(row(0),), published=())
    page = show(Leaderboard(suite_version="1", tables=(alone, table("Published", rows=()))))
    assert len(shown_names(page, "table-1-published")) == 3
    assert not page.locator("#differences").is_visible()
    page.locator("#table-0-measured thead th", has_text="AP50").click()
    assert shown_names(page) == ["FVNet-T"]
