"""Makes docs/images/demo.png: two people side by side, one of whom has just reloaded her page ten times."""

from __future__ import annotations

import base64
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.acceptance.browsing import Person, connected, launch, watch_badge
from tests.acceptance.server import ServerProcess

OUT = Path(__file__).parents[1] / "docs" / "images" / "demo.png"
SIZE = {"width": 600, "height": 1000}
_SHEET = '<body style="margin:0;display:flex;gap:16px;padding:16px;background:#d9d7d0">'
_SHOT = '<img style="border-radius:10px" src="data:image/png;base64,{}">'


def main() -> None:
    """Take both pages and put them beside each other."""
    with ServerProcess(dev=True) as server, sync_playwright() as playwright:
        browser = launch(playwright)
        alice, bob, carol = (Person(browser, server.url, name, viewport=SIZE) for name in ("alice", "bob", "carol"))
        pages = [alice.tab(), bob.tab()]
        busy = carol.tab()
        busy.get_by_test_id("btn-busy").click()
        for page in pages:
            page.get_by_test_id("room-input").fill("kitchen")
            page.get_by_test_id("room-join").click()
        watch_badge(pages[1], "alice")
        for _ in range(10):
            pages[0].reload()
            connected(pages[0])
        pages[0].get_by_test_id("btn-away").click()
        time.sleep(5)
        shots = [base64.b64encode(page.screenshot()).decode() for page in pages]
        sheet = browser.new_page(viewport={"width": 2 * SIZE["width"] + 48, "height": SIZE["height"] + 32})
        sheet.set_content(_SHEET + "".join(map(_SHOT.format, shots)))
        OUT.parent.mkdir(parents=True, exist_ok=True)
        sheet.screenshot(path=OUT)
        browser.close()


if __name__ == "__main__":
    main()
