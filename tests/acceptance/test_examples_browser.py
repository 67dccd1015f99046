"""The pages of the examples in a real browser: two people log in, one reloads, the other sees nothing of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.acceptance.browsing import launch
from tests.acceptance.hosting import Host
from tests.acceptance.test_examples import command

pytestmark = pytest.mark.browser

PATIENCE_MS = 15_000

RECORD = """
(look) => {
  const seen = (window.seen = []);
  const note = () => {
    const now = document.querySelector(look)?.className ?? "absent";
    if (seen.at(-1) !== now) seen.push(now);
  };
  note();
  new MutationObserver(note).observe(document.body, { subtree: true, childList: true, attributes: true });
}
"""
"""Every class that the badge of somebody had since."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


class Visitor:
    """Somebody in a browser of his own, on one of the examples."""

    def __init__(self, browser: Browser, host: Host, name: str) -> None:
        self.errors: list[str] = []
        self.page: Page = browser.new_context().new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"http://127.0.0.1:{host.port}/")
        self.page.fill('input[name="name"]', name)
        with self.page.expect_navigation():
            self.page.click('form:has(input[name="name"]) button')


@pytest.mark.parametrize(
    ("program", "badge"),
    [
        ("plain_html/app.py", "#people li:nth-child(1)"),  # watched are alice, bob and carol
        ("fastapi_chat/app.py", "#people span:nth-child(1)"),
        ("django_site/asgi.py", 'li[data-user="alice"]'),
    ],
)
def test_a_reload_in_one_browser_shows_nothing_in_the_other(browser: Browser, program: str, badge: str) -> None:
    with Host(command(program)) as host:
        alice = Visitor(browser, host, "alice")
        alice.page.wait_for_selector(f"{badge}.online")
        bob = Visitor(browser, host, "bob")
        bob.page.wait_for_selector(f"{badge}.online")
        bob.page.evaluate(RECORD, badge)
        alice.page.reload()
        alice.page.wait_for_selector(f"{badge}.online")
        assert bob.page.evaluate("window.seen") == ["online"]
        assert alice.errors == bob.errors == []
        for visitor in (alice, bob):
            visitor.page.context.close()
