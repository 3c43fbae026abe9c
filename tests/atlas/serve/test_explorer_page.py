"""The explorer in a browser: Debian's Chromium against `foldatlas serve`, without a network.

Skipped where no Chromium or no built page (scripts/build-web) is installed. `long`: all sizes, themes and axe-core.
"""

import shutil
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import report_atlas
from browser import CHROMIUM, Opened, launched
from served_atlas import served
from shared import made_once

from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.serve.http.pages import explorer_folder
from foldatlas.jobs.annotate import annotate

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(not (explorer_folder() / "index.html").exists(), reason="scripts/build-web was not run"),
]

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
        png = explorer.saved("Figure", "Map (PNG)").read_bytes()
        assert png.startswith(b"\x89PNG") and len(png) > 5_000
        figure = ET.fromstring(explorer.saved("Figure", "Histograms (SVG)").read_text(encoding="utf-8"))
        texts = [element.text for element in figure.iter("{http://www.w3.org/2000/svg}text")]
        assert "Length (residues)" in texts and any("47 proteins" in (text or "") for text in texts)

        assert all(request.startswith((address, "blob:", "data:")) for request in explorer.requests)
        assert explorer.messages == []
