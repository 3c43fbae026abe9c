"""The explorer's page of one protein in Chromium, behind a prefix and with a token, without a network.

Skipped where no Chromium or no built page (scripts/build-web) is installed. `long`: sizes, themes and axe-core.
"""

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import report_atlas
import uvicorn
from browser import CHROMIUM, Opened, launched
from shared import made_once
from starlette.testclient import TestClient

from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.http.pages import explorer_folder
from foldatlas.atlas.serve.http.run import config_of
from foldatlas.atlas.serve.settings import ServerSettings, token_digest

TOKEN = "a-token-of-the-tests-1234"
PREFIX = "/atlas"
SETTINGS = ServerSettings(prefix=PREFIX, tokens=frozenset({token_digest(TOKEN)}))

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(not (explorer_folder() / "index.html").exists(), reason="scripts/build-web was not run"),
]

# Colours of a canvas, each channel in four steps, of opaque pixels.
_COLOURS = """async () => {
  const image = await createImageBitmap(document.querySelector(".p-view canvas"));
  const copy = document.createElement("canvas");
  copy.width = copy.height = 80;
  const drawn = copy.getContext("2d");
  drawn.drawImage(image, 0, 0, 80, 80);
  const found = new Set();
  const data = drawn.getImageData(0, 0, 80, 80).data;
  for (let at = 0; at < data.length; at += 4)
    if (data[at + 3] > 200) found.add([0, 1, 2].map((n) => data[at + n] >> 6).join());
  return [...found].sort();
}"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "report", report_atlas.build) / "atlas"


@pytest.fixture(scope="module")
def app(root: Path) -> Iterator[Any]:
    with CurrentAtlas(root) as current:
        yield create_app(current, SETTINGS)


@pytest.fixture(scope="module")
def api(app: Any) -> TestClient:
    """The same server, asked in process."""
    return TestClient(app, base_url="http://localhost:8000", headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.fixture(scope="module")
def address(app: Any) -> Iterator[str]:
    """The URL of a protein's page, without its name."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config_of(app, SETTINGS))
    ready = threading.Event()
    started = server.startup

    async def startup(sockets: Any = None) -> None:
        await started(sockets)
        ready.set()

    server.startup = startup  # type: ignore[method-assign]
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    assert ready.wait(60)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}{PREFIX}/protein/"
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


class ProteinPage(Opened):
    """The page of a protein, with all that it loads. The token is in the tab's storage, as after asking for it."""

    def __init__(self, browser: Any, address: str, name: str, **options: Any):
        small = {"width": 900, "height": 600}  # software draws each frame of the 3D view
        super().__init__(browser, "about:blank", **{"accept_downloads": True, "viewport": small, **options})
        stored = f"sessionStorage.setItem('foldatlas-token', '{TOKEN}')"
        self.context.add_init_script(f"if (location.protocol === 'http:') {stored}")
        self.page.goto(address + quote(name, safe=""))
        self.page.wait_for_selector(".p-view canvas")
        self.page.wait_for_selector(".p-pae")

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.text_content() or ""

    def image(self) -> str:
        image: str = self.page.evaluate("document.querySelector('.p-view canvas').toDataURL()")
        return image

    def download(self, label: str) -> bytes:
        with self.page.expect_download() as found:
            self.page.get_by_text(label, exact=True).first.click()
        return Path(found.value.path()).read_bytes()


def cell(page: Any, row: int, column: int, residues: int) -> tuple[float, float]:
    """Where the error of two residues is on the screen."""
    box = page.locator(".p-pae image").bounding_box()
    return box["x"] + (column + 0.5) / residues * box["width"], box["y"] + (row + 0.5) / residues * box["height"]


def test_protein_in_a_browser(browser: Any, address: str, api: TestClient) -> None:
    """3D view, superposition, aligned errors, sequence, files, another protein, and back."""
    protein = api.get("/v1/explore/proteins/known").json()
    n, _, _, scale = struct.unpack_from("<4I", errors := api.get("/v1/pae/known").content)
    with ProteinPage(browser, address, "known") as opened:
        page = opened.page
        page.wait_for_function("document.querySelector('.p-legend').textContent.includes('Nearest known structure')")
        assert opened.text("h1") == "known" and opened.text(".p-badge") == "Known fold"
        assert "entry0" in opened.text(".p-nearest") and "|" in opened.text(".p-nearest pre")
        # 3D: not blank, and the superposed structure can be hidden
        assert len(page.evaluate(_COLOURS)) > 2
        before = opened.image()
        page.get_by_label("Superposed", exact=True).uncheck()
        hidden = opened.image()
        assert hidden != before and len(page.evaluate(_COLOURS)) > 1
        # aligned errors: the value under the pointer, and a part of the matrix
        page.locator(".p-errors").scroll_into_view_if_needed()
        page.mouse.move(*cell(page, 3, 40, n))
        expected = errors[16 + 3 * n + 40] / scale
        readout = opened.text(".p-errors output")
        assert " 41, aligned on " in readout and " 4: " in readout
        assert float(readout.split(": ")[1].removesuffix(" Å")) == pytest.approx(expected, abs=0.0501)
        page.mouse.move(*cell(page, 10, 50, n))
        page.mouse.down()
        page.mouse.move(*cell(page, 19, 60, n))
        page.mouse.up()
        assert opened.text(".p-selection").startswith("Aligned residues 11 to 20 (green), scored residues 51 to 61")
        assert page.locator(".p-residue.p-first").count() == 10 and page.locator(".p-residue.p-second").count() == 11
        assert opened.image() != hidden
        page.locator(".p-pae").press("Escape")
        assert page.locator(".p-residue.p-first").count() == 0
        # the sequence points into the structure
        page.locator(".p-residue").nth(6).hover()
        named = opened.text(".p-residues output")
        assert f" 7: pLDDT {protein['plddt'][6]:.1f}" in named and opened.text(".p-structure output") == named
        # files are fetched with the token
        assert opened.download("Structure, PDB") == api.get("/v1/structures/known?format=pdb").content
        letters = opened.download("Sequence, FASTA").decode().split("\n", 1)
        assert letters[0] == ">known" and letters[1].replace("\n", "") == protein["sequence"]
        stored = json.loads(opened.download("Aligned errors, JSON as AlphaFold DB"))
        assert stored[0]["predicted_aligned_error"][3][40] == expected
        assert opened.download("PNG").startswith(b"\x89PNG")
        assert b"<image" in opened.download("SVG")
        # another protein, whose header tries to be markup, and back
        hostile = next(iter(report_atlas.HOSTILE))
        page.goto(address + quote(hostile, safe=""))
        page.wait_for_selector(".p-view canvas")
        assert opened.text("h1") == hostile and opened.text(".p-description") == report_atlas.HOSTILE[hostile]
        page.go_back()
        page.wait_for_selector(".p-view canvas")
        assert opened.text("h1") == "known" and "broken" not in page.title()
        origin = address.partition(PREFIX)[0]
        local = ("about:", "data:", f"blob:{origin}")
        assert [url for url in opened.requests if not url.startswith((origin, *local))] == []
        assert opened.messages == [], "a fault, or something that the Content-Security-Policy stopped"


def test_page_without_webgl_says_so(browser: Any, address: str) -> None:
    """Without a 3D view there is a reason, and the other parts; a protein that was not searched says so too."""
    without = (
        "const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext = "
        "function (kind, ...rest) { return kind.startsWith('webgl') ? null : get.call(this, kind, ...rest); }"
    )
    with Opened(browser, "about:blank") as opened:
        opened.context.add_init_script(without)
        opened.context.add_init_script(
            f"if (location.protocol === 'http:') sessionStorage.setItem('foldatlas-token', '{TOKEN}')"
        )
        opened.page.goto(address + "short")
        opened.page.wait_for_selector(".p-pae")
        assert "needs WebGL" in opened.page.locator(".p-stage").inner_text()
        assert opened.page.locator(".p-badge").inner_text() == "Not searched"
        assert "fewer than 30 residues" in opened.page.locator(".p-nearest").inner_text()
        assert opened.page.locator(".p-residue").count() == 24


@pytest.mark.long
@pytest.mark.parametrize(
    "width, scheme", [(1440, "light"), (1440, "dark"), (900, "light"), (390, "dark"), (390, "light")]
)
def test_axe_finds_no_fault_on_a_protein(browser: Any, address: str, width: int, scheme: str) -> None:
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme, "bypass_csp": True}
    with ProteinPage(browser, address, "known", **options) as opened:
        page = opened.page
        for summary in page.locator("summary").all():
            summary.click()
        page.wait_for_function("document.querySelector('.p-legend').textContent.includes('Nearest known structure')")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
        assert opened.faults() == []
