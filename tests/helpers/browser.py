"""Debian's Chromium, driven by Playwright, without a network: what tests of pages share."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE: Final = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
HANGS: Final = 300_000  # ms; Playwright's own limit of 30 s can be too short on a busy machine
_SOFTWARE_WEBGL: Final = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@contextmanager
def launched() -> Iterator[Any]:
    """A browser of Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=_SOFTWARE_WEBGL, chromium_sandbox=False, timeout=HANGS
        )
        try:
            yield browser
        finally:
            browser.close()


class Opened:
    """A page, with what it asked for and complained of."""

    def __init__(self, browser: Any, address: str, **options: Any):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.set_default_timeout(HANGS)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.goto(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def faults(self) -> list[tuple[str, str, list[str]]]:
        """What axe-core finds: the rule, how serious it is, and elements. The page needs `bypass_csp`."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        return [
            (fault["id"], fault["impact"], [node["html"][:150] for node in fault["nodes"][:3]])
            for fault in found["violations"]
        ]
