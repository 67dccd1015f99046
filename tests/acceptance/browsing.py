"""People in a real browser, for the acceptance tests: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from playwright.sync_api import Browser, BrowserContext, Page, Playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_KEEP_BACK_FORWARD_CACHE = ["--disable-back-forward-cache"]

_RECORD_BADGE = """
(user) => {
  const seen = (window.__badge = window.__badge || []);
  const look = () => {
    const at = document.querySelector(`[data-testid="person-${user}"]`);
    const status = at ? at.getAttribute("data-status") : "absent";
    if (seen.length === 0 || seen[seen.length - 1] !== status) seen.push(status);
  };
  look();
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
}
"""


def launch(playwright: Playwright) -> Browser:
    """Start Chromium, with its back/forward cache, which Playwright would turn off."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path is not None, "Chromium is not installed: apt-get install chromium"
    return playwright.chromium.launch(
        executable_path=path, args=ARGUMENTS, ignore_default_args=_KEEP_BACK_FORWARD_CACHE
    )


class Person:
    """Somebody in a browser window of his own; further tabs share it."""

    def __init__(self, browser: Browser, url: str, name: str, **options: Any) -> None:
        """Open a window; sign in with :meth:`tab`.

        Args:
            browser: from :func:`launch`.
            url: of the development server.
            name: to sign in as.
            options: of the browser context: viewport, colour scheme.
        """
        self.name = name
        self.url = url
        self.errors: list[str] = []
        self.context: BrowserContext = browser.new_context(**options)

    def tab(self) -> Page:
        """A new tab, signed in and connected."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(self.url)
        page.get_by_test_id("sign-in-name").fill(self.name)
        page.get_by_test_id("sign-in-submit").click()
        connected(page)
        return page

    def close(self) -> None:
        """Close the window with all its tabs."""
        self.context.close()


def connected(page: Page, timeout: float = 15.0) -> None:
    """Wait until the page says that it is connected."""
    page.wait_for_selector('[data-testid="connection-status"][data-state="open"]', timeout=timeout * 1000)


def watch_badge(page: Page, user: str) -> None:
    """Wait until the badge of a user has its first answer, and record every value that it ever has from now on."""
    page.wait_for_selector(f'[data-testid="person-{user}"]:not([data-status="unknown"])', timeout=15_000)
    page.evaluate(_RECORD_BADGE, user)


def badge_history(page: Page) -> list[str]:
    """What :func:`watch_badge` recorded: each value once per change."""
    return cast(list[str], page.evaluate("window.__badge"))


def badge(page: Page, user: str, status: str, timeout: float = 15.0) -> None:
    """Wait until the badge of a user has a value."""
    page.wait_for_selector(f'[data-testid="person-{user}"][data-status="{status}"]', timeout=timeout * 1000)


def shown(page: Page, user: str) -> list[str]:
    """Every status of a user that the page was sent, in order; rooms apart."""
    strip = cast(list[dict[str, Any]], page.evaluate("window.__stillhereStrip"))
    return [entry["status"] for entry in strip if entry["user"] == user and not entry.get("room")]


@contextlib.contextmanager
def another_site() -> Iterator[str]:
    """Some other site, on a port of its own."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><p>another site")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
