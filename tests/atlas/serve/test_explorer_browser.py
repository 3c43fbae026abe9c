"""The explorer in a browser: Debian's Chromium against `foldatlas serve`, without a network.

Skipped where no Chromium or no built page (scripts/build-web) is installed. `long`: all sizes, themes and axe-core.
"""

import json
import shutil
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import report_atlas
from browser import AXE, CHROMIUM, Opened, launched
from served_atlas import served, wait_for_explorer
from shared import made_once

from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.serve.http.pages import explorer_folder
from foldatlas.jobs.annotate import annotate

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(not (explorer_folder() / "index.html").exists(), reason="scripts/build-web was not run"),
]

PICTURE = "document.querySelector('.stage canvas').toDataURL()"
HOSTILE_VALUE = "<img src=x onerror=document.title='broken'>"
HOSTILE_COLUMN = "\"><script>document.title='broken'</script>"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas whose ids, descriptions and annotations try to become markup."""
    made = made_once(tmp_path_factory, "report", report_atlas.build) / "atlas"
    folder = tmp_path_factory.mktemp("explorer")
    copy = Path(shutil.copytree(made, folder / "atlas"))
    numbers = range(8)
    table = pa.table(
        {
            "id": [f"novel{number}" for number in numbers],
            "biome": [HOSTILE_VALUE if number < 3 else "soil" for number in numbers],
            HOSTILE_COLUMN: list(numbers),
        }
    )
    pq.write_table(table, folder / "biome.parquet")
    annotate(copy, folder / "biome.parquet", key="id")
    return copy


@pytest.fixture(scope="module")
def address(atlas: Path) -> Iterator[str]:
    with served(atlas) as url:
        wait_for_explorer(url)
        yield f"{url}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


class Explorer(Opened):
    """The page of the explorer."""

    def __init__(self, browser: Any, address: str, **options: Any):
        super().__init__(browser, address, **{"accept_downloads": True, **options})
        self.page.locator("main .page").wait_for()
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is loading. A part is marked as busy at once when it begins to."""
        self.page.wait_for_selector("[aria-busy]", state="detached")

    def total(self) -> str:
        return self.page.locator(".total").inner_text()

    def column(self, number: int) -> list[str]:
        """The texts of a column of the table."""
        return self.page.locator(f".table-box tbody tr > :nth-child({number})").all_inner_texts()

    def chips(self) -> list[str]:
        return self.page.locator(".chip span").all_inner_texts()

    def click(self, role: str, name: str, *, exact: bool = True) -> None:
        self.page.get_by_role(role, name=name, exact=exact).first.click()
        self.settle()

    def plot(self, label: str) -> Any:
        """The histogram of a column."""
        title = self.page.get_by_role("heading", name=label, exact=True)
        found = self.page.locator(".card", has=title).locator("svg.histogram")
        found.scroll_into_view_if_needed()
        return found

    def drag(self, element: Any, *fractions: tuple[float, float]) -> None:
        """Drag the mouse over an element through points in fractions of its size."""
        box = element.bounding_box()
        places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in fractions]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=3)
        self.page.mouse.up()
        self.settle()

    def parameters(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.page.url).query)

    def saved(self, menu: str, item: str) -> Path:
        """The file that an item of a menu saves."""
        self.page.locator(".menu-box > summary", has_text=menu).click()
        with self.page.expect_download() as waiting:
            self.page.get_by_role("button", name=item, exact=True).click()
        self.press("Escape")
        return Path(waiting.value.path())


def ids(atlas: Path, sql: str) -> list[str]:
    """The first column of a result."""
    with Atlas.open(atlas) as opened:
        return [row[0] for row in opened.sql(sql).rows()]


def test_walk_of_a_visitor(browser: Any, address: str, atlas: Path) -> None:
    """Filter, brush, sort, open, go back, share and download; the counts are those that SQL gives."""
    every = ids(atlas, "SELECT id FROM proteins")
    with Explorer(browser, address) as explorer:
        page = explorer.page
        assert explorer.total() == f"{len(every)} proteins"

        # the best of what is new
        explorer.click("link", "Best of what is new", exact=False)
        novel = ids(atlas, "SELECT id FROM novel ORDER BY structure_id, id, source")
        assert explorer.total() == f"{len(novel)} of {len(every)} proteins"
        assert sorted(explorer.column(1)) == sorted(novel)
        assert explorer.column(4) == sorted(explorer.column(4), reverse=True)

        # a brush on a histogram
        explorer.drag(explorer.plot("Length"), (0.4, 0.5), (0.5, 0.5), (0.6, 0.5))
        [brush] = explorer.parameters()["range"]
        name, least, below = brush.split(":")
        assert name == "length"
        wanted = ids(atlas, f"SELECT id FROM novel WHERE length >= {least} AND length < {below} ORDER BY id")
        assert 0 < len(wanted) < len(novel)
        assert explorer.total() == f"{len(wanted)} of {len(every)} proteins"
        assert explorer.chips() == [f"Length {least} to {below}", "Known or novel: novel"]
        brushed = page.url

        # the SQL that is shown selects what is shown
        page.locator(".sql > summary").click()
        shown = page.locator(".sql code").inner_text()
        assert ids(atlas, shown.replace("*", "id") + " ORDER BY id") == wanted

        # sort, in both directions
        lengths = sorted(int(text) for text in explorer.column(2))
        explorer.click("button", "Length")
        assert [int(text) for text in explorer.column(2)] == lengths[::-1]
        explorer.click("button", "Length")
        assert [int(text) for text in explorer.column(2)] == lengths

        # a link shows what its sender saw
        with Explorer(browser, page.url) as other:
            assert other.total() == explorer.total() and other.column(1) == explorer.column(1)
            assert other.chips() == explorer.chips()

        # a protein, and back by the browser's button: the brush was one step, whatever the mouse did
        first = explorer.column(1)[0]
        page.get_by_role("link", name=first, exact=True).click()
        page.get_by_role("heading", level=1, name=first).wait_for()
        assert f"/protein/{quote(first, safe='')}" in page.url
        page.go_back()
        explorer.settle()
        assert explorer.column(1)[0] == first
        for _ in range(2):
            page.go_back()
            explorer.settle()
        assert page.url == brushed
        page.go_back()
        explorer.settle()
        assert explorer.total() == f"{len(novel)} of {len(every)} proteins"

        # files of what matches
        assert explorer.saved("Download", "List of ids (text)").read_text().split("\n")[:-1] == novel
        with tarfile.open(explorer.saved("Download", "Structures (PDB, tar)")) as tar:
            assert len(tar.getnames()) == len(novel) + 1
        assert explorer.saved("Download", "Sequences (FASTA)").read_text().count(">") == len(novel)
        png = explorer.saved("Figure", "Map (PNG)").read_bytes()
        assert png.startswith(b"\x89PNG") and len(png) > 5_000
        figure = ET.fromstring(explorer.saved("Figure", "Histograms (SVG)").read_text(encoding="utf-8"))
        texts = [element.text for element in figure.iter("{http://www.w3.org/2000/svg}text")]
        assert "Length (residues)" in texts and any("47 proteins" in (text or "") for text in texts)

        assert all(request.startswith((address, "blob:", "data:")) for request in explorer.requests)
        assert explorer.messages == []


def test_page_with_the_keyboard_alone(browser: Any, address: str) -> None:
    """A brush by its handles, a value, the map, a protein in its middle, and the search box."""
    with Explorer(browser, f"{address}?charts=length,known") as explorer:
        page = explorer.page
        every = explorer.total()
        handle = page.get_by_role("slider", name="Length, from")
        handle.focus()
        before = float(handle.get_attribute("aria-valuenow") or "nan")
        explorer.press("PageUp", "ArrowRight")
        explorer.settle()
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Length, from"
        [brush] = explorer.parameters()["range"]
        assert float(brush.split(":")[1]) > before and explorer.total() != every
        explorer.press("Escape")
        explorer.settle()
        assert "range" not in explorer.parameters() and explorer.total() == every

        page.get_by_role("button", name="novel", exact=False).first.focus()
        explorer.press("Space")
        explorer.settle()
        assert explorer.parameters()["choice"] == ["known:novel"]

        # the map: Enter opens the protein in its middle
        page.goto(f"{address}?map=plddt_length&view=75,95,80,100")
        explorer.settle()
        stage = page.get_by_role("application")
        stage.focus()
        drawn = page.evaluate(PICTURE)
        explorer.press("+")
        page.wait_for_url("**view=77**")
        assert page.evaluate(PICTURE) != drawn
        explorer.press("Enter")
        page.get_by_role("heading", level=1, name="novel3").wait_for()

        explorer.press("/")
        page.keyboard.type("novel5")
        explorer.press("Enter")
        page.get_by_role("heading", level=1, name="novel5").wait_for()


def test_sequence_in_the_search_box(browser: Any, address: str, atlas: Path) -> None:
    """A sequence with its header, as pasted, finds its protein; an unknown id is an answer."""
    [sequence] = ids(atlas, "SELECT sequence FROM sequences JOIN proteins USING (structure_id) WHERE id = 'novel3'")
    with Explorer(browser, address) as explorer:
        page = explorer.page
        box = page.get_by_role("searchbox")
        box.fill("no such protein")
        explorer.press("Enter")
        page.locator(".search-answer", has_text="Not found").wait_for()
        box.fill(sequence.lower())
        explorer.press("Enter")
        page.wait_for_url(lambda url: "search=" in url or "/protein/" in url)
        if "search=" in page.url:  # else searches are off, and the identical one was opened
            page.get_by_role("link", name="Open it").click()
        page.get_by_role("heading", level=1, name="novel3").wait_for()


def test_texts_of_an_atlas_run_nothing(browser: Any, address: str, atlas: Path) -> None:
    """Ids, descriptions, annotations and parameters are shown as texts, and the policy refuses scripts."""
    charts = f"known,biome.biome,biome.{HOSTILE_COLUMN}"
    query = {"charts": charts, "color": "biome.biome", "choice": f"biome.biome:{HOSTILE_VALUE}"}
    with Explorer(browser, f"{address}?{urlencode(query)}") as explorer:
        page = explorer.page
        assert explorer.total().startswith("3 of ")
        assert any(HOSTILE_VALUE in chip for chip in explorer.chips())
        assert page.get_by_role("heading", name=f"biome: {HOSTILE_COLUMN}").count() == 1
        page.get_by_role("button", name="Remove", exact=False).click()
        explorer.settle()
        shown = explorer.column(1)
        for text in report_atlas.HOSTILE:
            assert text in shown
        for text in ("javascript:document.title='broken'", *report_atlas.HOSTILE):
            query = {"where": HOSTILE_COLUMN, "map": HOSTILE_VALUE}
            page.goto(f"{address}protein/{quote(text, safe='')}?{urlencode(query)}")
            page.locator("main h1").wait_for()
            explorer.settle()
            links = page.locator("a").evaluate_all("links => links.map((link) => link.protocol)")
            assert set(links) <= {"http:", "https:", "blob:"}
            assert "broken" not in page.title().replace(text, "")
        refused = (
            "() => new Promise((done) => {"
            "addEventListener('securitypolicyviolation', (event) => done(event.blockedURI));"
            "const script = document.createElement('script'); script.textContent = \"document.title = 'broken'\";"
            "document.body.append(script); })"
        )
        assert page.evaluate(refused) == "inline"
        assert page.title() != "broken"
        response = explorer.context.request.get(address)
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy


def test_token_is_asked_for_and_sent(browser: Any, address: str) -> None:
    """The routes stand in for those of a server with tokens; nothing but the header has the token."""
    token = "t" * 30

    def guard(route: Any) -> None:
        if route.request.headers.get("authorization") == f"Bearer {token}":
            return route.continue_()
        problem = {"title": "Unauthorized", "status": 401, "detail": "this needs a token"}
        return route.fulfill(status=401, json=problem, content_type="application/problem+json")

    with Explorer(browser, address) as explorer:
        page = explorer.page
        page.route("**/v1/**", guard)
        page.reload()
        page.get_by_role("dialog").wait_for()
        page.get_by_role("textbox", name="Token").fill(token)
        explorer.press("Enter")
        page.locator(".table-box tbody tr").first.wait_for()
        explorer.settle()
        assert "proteins" in explorer.total()
        assert token not in page.url and not any(token in request for request in explorer.requests)
        page.reload()
        page.locator(".table-box tbody tr").first.wait_for()
        assert page.get_by_role("dialog").count() == 0


def test_faults_are_shown_where_they_are(browser: Any, address: str) -> None:
    """A part that fails says why, the others work, and trying again works; no match is a message too."""
    with Explorer(browser, f"{address}?range=length:1:2") as explorer:
        page = explorer.page
        assert page.get_by_text("No protein matches", exact=False).is_visible()
        problem = {"title": "Service Unavailable", "status": 503, "detail": "busy for a while"}
        page.route("**/v1/explore/map*", lambda route: route.fulfill(status=503, json=problem))
        page.route("**/v1/explore/rows*", lambda route: route.abort())
        page.get_by_role("button", name="Remove", exact=False).click()
        explorer.settle()
        assert page.locator(".stage-message").inner_text().startswith("busy for a while")
        assert "does not answer" in page.locator(".table-message").inner_text()
        assert explorer.total().endswith(" proteins")
        page.unroute("**/v1/explore/map*")
        page.unroute("**/v1/explore/rows*")
        page.locator(".stage-message button").click()
        page.locator(".table-message button").click()
        explorer.settle()
        assert not page.locator(".stage-message").is_visible() and len(explorer.column(1)) == 25
        # a condition of SQL that is wrong
        page.locator(".sql > summary").click()
        page.get_by_label("Condition in SQL").fill("lenth > 100")
        explorer.click("button", "Apply")
        assert "lenth" in page.locator(".filter-bar .error").inner_text()
        page.get_by_label("Condition in SQL").fill("length > 100")
        explorer.click("button", "Apply")
        assert not page.locator(".filter-bar .error").is_visible()
        assert explorer.parameters()["where"] == ["length > 100"]


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 900, 1440])
def test_axe_finds_no_fault_in_the_explorer(browser: Any, address: str, width: int, scheme: str) -> None:
    """Neither on the map page, with its menus open, nor in the dialog of help, nor on a protein's page."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: scripts/build-web")
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme, "bypass_csp": True}
    with Explorer(browser, f"{address}?choice=known:novel&range=length:60:100", **options) as explorer:
        page = explorer.page
        page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
        faults = explorer.faults()
        page.get_by_role("button", name="Help").click()
        faults += explorer.faults()
        page.goto(f"{address}protein/novel3")
        page.locator("main h1").wait_for()
        explorer.settle()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the protein scrolls sideways"
        faults += explorer.faults()
        assert faults == [], json.dumps(faults, indent=1)


@pytest.mark.long
def test_explorer_by_touch_on_a_phone(browser: Any, address: str) -> None:
    """A tap on the map opens a protein; a finger on a histogram brushes."""
    options = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with Explorer(browser, address, **options) as explorer:
        page = explorer.page
        plot = explorer.plot("Length")
        box = plot.bounding_box()
        client = explorer.context.new_cdp_session(page)
        y = box["y"] + 30
        for kind, x in (("touchStart", 0.3), ("touchMove", 0.4), ("touchMove", 0.6), ("touchEnd", None)):
            points = [] if x is None else [{"x": box["x"] + box["width"] * x, "y": y}]
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_url("**range=length**")
        explorer.settle()
        assert explorer.chips()[0].startswith("Length ")
        page.goto(f"{address}?map=plddt_length&view=75,95,80,100")
        explorer.settle()
        page.locator(".stage").scroll_into_view_if_needed()
        place = page.locator(".stage").bounding_box()
        page.touchscreen.tap(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.get_by_role("heading", level=1, name="novel3").wait_for()
