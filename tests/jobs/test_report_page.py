"""The report in a browser: Debian's Chromium, driven by Playwright, without a network.

Skipped where no Chromium or no 3Dmol.js (scripts/build-web) is installed. `long`: accessibility by axe-core in light,
dark and on a phone, and print.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import browser as chromium
import pytest
import report_atlas
from shared import made_once

from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.report.content import read_content
from foldatlas.atlas.report.page import ABSENT, report_html
from foldatlas.atlas.web.assets import viewer_library

pytestmark = [
    pytest.mark.skipif(chromium.CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(viewer_library() is None, reason="scripts/build-web was not run"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of an atlas whose ids and descriptions try to become markup."""
    atlas = made_once(tmp_path_factory, "report", report_atlas.build) / "atlas"
    with Atlas.open(atlas) as opened:
        page = report_html(read_content(opened))
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium.launched() as browser:
        yield browser


class Opened(chromium.Opened):
    """A page of the report."""

    def column(self, table: str, number: int) -> list[str]:
        """The visible texts of a column."""
        return self.page.evaluate(
            "([id, n]) => Array.from(document.getElementById(id).tBodies[0].rows).filter((row) => !row.hidden)"
            ".map((row) => row.cells[n].textContent)",
            [table, number],
        )

    def focused(self) -> str:
        return self.page.evaluate("document.activeElement.textContent || document.activeElement.ariaLabel || ''")

    def tab_to(self, wanted: str) -> None:
        """Press Tab until the element that has `wanted` in its text or label has the focus."""
        for _ in range(400):
            self.press("Tab")
            if wanted in self.page.evaluate(
                "(document.activeElement.ariaLabel || document.activeElement.id || '') + ' ' + "
                "(document.activeElement.textContent || '').slice(0, 80)"
            ):
                return
        raise AssertionError(f"no {wanted!r} can be reached with Tab")


def colours(page: Any, view: int) -> set[tuple[int, int, int]]:
    """The kinds of opaque colours in the canvas of a 3D view, each channel in four steps."""
    pixels = page.evaluate(
        "async (n) => { const canvas = document.querySelectorAll('.view')[n].querySelector('canvas');"
        "const image = await createImageBitmap(canvas); const copy = document.createElement('canvas');"
        "copy.width = 60; copy.height = 60; const drawn = copy.getContext('2d');"
        "drawn.drawImage(image, 0, 0, 60, 60); return Array.from(drawn.getImageData(0, 0, 60, 60).data); }",
        view,
    )
    quads = zip(pixels[::4], pixels[1::4], pixels[2::4], pixels[3::4], strict=True)
    return {(r // 64, g // 64, b // 64) for r, g, b, a in quads if a > 200}


def test_page_in_a_browser_with_the_keyboard_alone(browser: Any, address: str) -> None:
    """Sorting, filter, SQL and 3D views; nothing is fetched, and no text of the atlas runs."""
    with Opened(browser, address) as opened:
        page = opened.page
        # sort by length: descending, then ascending
        lengths = [int(text) for text in opened.column("best", 2)]
        opened.tab_to("filter-best")
        for _ in range(10):
            opened.press("Tab")
            if opened.focused() == "Length":
                break
        opened.press("Enter")
        assert [int(text) for text in opened.column("best", 2)] == sorted(lengths, reverse=True)
        opened.press("Space")
        assert [int(text) for text in opened.column("best", 2)] == sorted(lengths) != lengths
        assert page.locator("#best th[aria-sort]").get_attribute("aria-sort") == "ascending"
        # absent TM-scores come last in either direction
        opened.press("Tab", "Tab", "Tab", "Enter")
        scores = opened.column("best", 5)
        known = [float(text) for text in scores if text != ABSENT]
        assert known == sorted(known, reverse=True) and set(scores[len(known) :]) == {ABSENT}
        # filter
        page.locator("#filter-best").focus()
        page.keyboard.type("SCORED1 fasta")
        shown = opened.column("best", 0)
        assert shown and all(text.startswith("scored1") for text in shown)
        assert page.locator("[data-shown=best]").text_content() == f"{len(shown)} of {len(lengths)} rows"
        # the statement of a figure opens with the keyboard
        page.locator("details.sql summary").first.focus()
        opened.press("Enter")
        assert page.locator("details.sql").first.evaluate("box => box.open")
        # a 3D view: not blank, and turned by an arrow key
        view = page.locator(".view").first
        view.scroll_into_view_if_needed()
        page.wait_for_selector(".view.live canvas")
        before = colours(page, 0)
        assert len(before) > 1
        turned = "() => document.querySelectorAll('.view canvas')[0].toDataURL()"
        first = page.evaluate(turned)
        view.focus()
        opened.press("ArrowRight", "ArrowUp", "+")
        assert page.evaluate(turned) != first
        assert page.title() == "atlas: protein structure atlas" and "broken" not in page.title()
        assert opened.requests == [address], "something was fetched"
        assert opened.messages == []


def test_page_without_script_has_its_figures(browser: Any, address: str) -> None:
    with Opened(browser, address, java_script_enabled=False) as opened:
        assert opened.page.locator("svg.chart").count() >= 6
        assert opened.page.locator(".view svg").first.is_visible()
        assert opened.page.locator("#best tbody tr").count() == len(report_atlas.proteins())
        assert not opened.page.locator(".copy").first.is_visible()


@pytest.mark.long
@pytest.mark.parametrize("width, scheme", [(1400, "light"), (1400, "dark"), (390, "light")])
def test_axe_finds_no_fault(browser: Any, address: str, width: int, scheme: str) -> None:
    if not chromium.AXE.exists():
        pytest.skip("axe-core is not installed: scripts/build-web")
    viewport = {"width": width, "height": 844}
    with Opened(browser, address, viewport=viewport, color_scheme=scheme, bypass_csp=True) as opened:
        page = opened.page
        page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
        for box in page.locator(".view").all():
            box.scroll_into_view_if_needed()
        page.wait_for_function(
            "document.querySelectorAll('.view.live').length === document.querySelectorAll('.view').length"
        )
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
        faults = opened.faults()
        assert faults == [], json.dumps(faults, indent=1)


@pytest.mark.long
def test_print_has_drawings_and_no_controls(browser: Any, address: str) -> None:
    with Opened(browser, address) as opened:
        page = opened.page
        page.locator(".view").first.scroll_into_view_if_needed()
        page.wait_for_selector(".view.live canvas")
        page.emulate_media(media="print")
        assert page.locator(".view.live svg").first.is_visible()
        for control in (".view canvas", ".tools", "input", ".copy", "nav", "details.sql"):
            assert not page.locator(control).first.is_visible(), control
        pdf = page.pdf(format="A4")
        assert pdf.startswith(b"%PDF") and 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 20


@pytest.mark.long
def test_statement_is_copied(browser: Any, address: str) -> None:
    with Opened(browser, address) as opened:
        page = opened.page
        opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
        details = page.locator("details.sql").first
        details.locator("summary").click()
        details.locator("button").click()
        page.wait_for_function("document.querySelector('details.sql button').textContent === 'Copied'")
        assert page.evaluate("navigator.clipboard.readText()") == details.locator("code").text_content()


@pytest.mark.long
def test_known_structure_can_be_hidden(browser: Any, address: str) -> None:
    with Opened(browser, address) as opened:
        page = opened.page
        tools = page.locator(".tools:has(input)").first
        tools.scroll_into_view_if_needed()
        tools.locator("input").wait_for()
        number = int(tools.get_attribute("data-tools") or "0")
        image = f"() => document.querySelectorAll('.view')[{number}].querySelector('canvas').toDataURL()"
        before = page.evaluate(image)
        tools.locator("input").uncheck()
        assert page.evaluate(image) != before
        tools.locator("input").check()
        tools.get_by_text("Turn left").click()
        tools.get_by_text("Reset").click()
        assert len(colours(page, number)) > 1
