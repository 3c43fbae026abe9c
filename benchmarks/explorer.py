"""The explorer's page in Chromium, on an atlas of any size: first paint, brushes, zooms, sorting.

    python benchmarks/explorer.py ATLAS [--repeats 5]

Starts `foldatlas serve`, waits until its table is made, and drives Debian's Chromium (without a graphics card) over
loopback. Every brush, zoom and order is new to the server, so no answer is a kept one. Times are what a user waits,
with the load of the machine; processor seconds of the server, which a busy machine changes least, are beside them.
Writes explorer.md and explorer.json. A synthetic index of 10 million records is made as benchmarks/index.py does.
"""

import argparse
import json
import os
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from machine import add_output, hardware, write_results
from serve import processor_seconds, serve

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from browser import launched

SIZE = {"width": 1440, "height": 900}
# The browser may list the paint after the page has loaded.
FIRST_PAINT = """new Promise((done) => new PerformanceObserver((list) => {
  const paint = list.getEntriesByName("first-contentful-paint")[0];
  if (paint) done(paint.startTime);
}).observe({ type: "paint", buffered: true }))"""


def wait_for_table(address: str) -> float:
    """Return the seconds until the explorer answers."""
    begin = time.perf_counter()
    while True:
        try:
            with urllib.request.urlopen(f"{address}v1/explore/columns") as answer:
                json.load(answer)
            return time.perf_counter() - begin
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            time.sleep(1)


class Measured:
    """Seconds that a user waits, and processor seconds of the server, by what was done."""

    def __init__(self, server: int):
        self._server = server
        self.seconds: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    def time(self, name: str, work: Callable[[], Any]) -> None:
        before = processor_seconds(self._server)
        begin = time.perf_counter()
        work()
        self.add(name, time.perf_counter() - begin, processor_seconds(self._server) - before)

    def add(self, name: str, seconds: float, processor: float) -> None:
        self.seconds.setdefault(name, []).append(seconds)
        self.processor.setdefault(name, []).append(processor)

    def medians(self) -> dict[str, dict[str, float]]:
        return {
            name: {
                "median_s": statistics.median(values),
                "greatest_s": max(values),
                "server_processor_s": statistics.median(self.processor[name]),
            }
            for name, values in self.seconds.items()
        }


def settle(page: Any) -> None:
    page.wait_for_selector("[aria-busy]", state="detached")


def counted(page: Any) -> None:
    """Wait until the number of proteins that match is known."""
    page.wait_for_selector(".charts:not([aria-busy])")


def brush(page: Any, low: float, high: float) -> None:
    """Drag over the histogram of lengths; return when the mouse is released."""
    title = page.get_by_role("heading", name="Length", exact=True)
    box = page.locator(".card", has=title).locator("svg.histogram").bounding_box()
    y = box["y"] + box["height"] * 0.4
    page.mouse.move(box["x"] + box["width"] * low, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * high, y)


def measure(browser: Any, address: str, server: int, repeats: int) -> dict[str, Any]:
    found = Measured(server)
    heap = 0
    for _ in range(repeats):
        context = browser.new_context(viewport=SIZE)
        page = context.new_page()

        def opened(page: Any = page) -> None:
            page.goto(address)
            page.locator(".table-box tbody tr").first.wait_for()
            settle(page)

        found.time("page whole: map, histograms and table", opened)
        found.add("first paint", page.evaluate(FIRST_PAINT) / 1000, 0.0)
        heap = max(heap, page.evaluate("performance.memory.usedJSHeapSize"))
        context.close()
    page = browser.new_context(viewport=SIZE).new_page()
    page.goto(address)
    page.locator(".table-box tbody tr").first.wait_for()
    settle(page)
    for number in range(repeats):
        page.get_by_role("link", name="All proteins").click()
        settle(page)
        brush(page, 0.1 + 0.02 * number, 0.4 + 0.03 * number)
        begin, before = time.perf_counter(), processor_seconds(server)
        page.mouse.up()
        counted(page)
        found.add("brush: counts and histograms", time.perf_counter() - begin, processor_seconds(server) - before)
        settle(page)
        found.add("brush: map and table too", time.perf_counter() - begin, processor_seconds(server) - before)
    page.get_by_role("link", name="All proteins").click()
    settle(page)
    for _ in range(repeats):
        with page.expect_response("**/v1/explore/map*"):
            begin, before = time.perf_counter(), processor_seconds(server)
            page.get_by_role("button", name="Zoom in").click()
        settle(page)
        found.add("zoom: map of the new window", time.perf_counter() - begin, processor_seconds(server) - before)
    for name in ["Length", "pLDDT", "TM to known", "Protein", "Length"][:repeats]:
        button = page.get_by_role("button", name=name, exact=True)

        def sort(button: Any = button) -> None:
            button.click()
            settle(page)

        found.time("sorted by another column", sort)
    return {"measured": found.medians(), "heap_bytes": heap}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("atlas", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    add_output(parser)
    arguments = parser.parse_args()
    process, port = serve(arguments.atlas)
    address = f"http://127.0.0.1:{port}/"
    try:
        preparing = wait_for_table(address)
        with urllib.request.urlopen(f"{address}v1/explore/columns") as answer:
            proteins = json.load(answer)["proteins"]
        load = os.getloadavg()
        with launched() as browser:
            found = measure(browser, address, process.pid, arguments.repeats)
    finally:
        process.terminate()
        process.wait()
    result = {
        "date": date.today().isoformat(), "hardware": hardware(), "load": [round(each, 2) for each in load],
        "proteins": proteins, "preparing_s": preparing, **found,
    }  # fmt: skip
    lines = [
        f"# The explorer's page: {proteins:,} proteins",
        "",
        f"{result['date']}, {result['hardware']}, load {load[0]:.1f} before (the machine was shared), Chromium "
        f"without a graphics card and the server on the same processors, {arguments.repeats} repeats. The server read "
        f"the index for {preparing:.0f} s before the first page; the page used {found['heap_bytes'] / 1e6:.0f} MB of "
        "JavaScript memory.",
        "",
        "| what | median, s | greatest, s | processor time of the server, s |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['median_s']:.2f} | {row['greatest_s']:.2f} | {row['server_processor_s']:.2f} |"
            for name, row in found["measured"].items()
        ),
    ]
    write_results(arguments.output, "explorer", result, lines)


if __name__ == "__main__":
    main()
