"""What the admin pages show stays true while the server is away: stale and not offline, and right again afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar, cast

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from stillhere.client import Client, connect
from tests.acceptance.browsing import launch
from tests.acceptance.server import ServerProcess

pytestmark = pytest.mark.browser

T = TypeVar("T")
PATIENCE = 60_000
"""Milliseconds; a machine may be busy."""

SQLITE = {"store.url": "sqlite:///presence.db", "grace.node_lost": 30_000, "grace.abnormal": 30_000}

_RECORD = """
(id) => {
  const seen = (window.__seen = []);
  const look = () => {
    const at = document.querySelector(`[data-testid="${id}"]`);
    if (!at) return;
    const now = `${at.dataset.status} ${at.dataset.stale === "true" ? "stale" : "current"}`;
    if (seen.at(-1) !== now) seen.push(now);
  };
  look();
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
}
"""


class People:
    """Users who come back by themselves, in a thread of their own: Playwright's loop has this one."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._here: dict[str, Client] = {}
        self._thread.start()

    def come(self, user: str) -> None:
        """Connect, and stay connected."""
        server = self._server
        client = connect(server.url, get_token=lambda renew: server.token(user), proxy=None, open_timeout=30)
        self._here[user] = self._do(client.__aenter__())

    def go(self, user: str) -> None:
        """Say bye, if there is anybody to hear it."""
        self._do(self._here.pop(user).__aexit__(None, None, None))

    def close(self) -> None:
        for user in list(self._here):
            self.go(user)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(40)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


def open_admin(browser: Browser, server: ServerProcess, view: str, credential: str | None = None) -> Page:
    page = browser.new_page()
    page.goto(f"{server.url}/admin#/{view}")
    page.get_by_test_id("log-in-secret").fill(credential or server.api_key)
    page.get_by_test_id("log-in-submit").click()
    page.get_by_test_id("role").wait_for()
    return page


def shows(page: Page, test_id: str, status: str, *, stale: bool) -> None:
    """Wait until a badge has a value, and until it is stale or is no longer."""
    at = page.get_by_test_id(test_id)
    expect(at).to_have_attribute("data-stale", str(stale).lower(), timeout=PATIENCE)
    expect(at).to_have_attribute("data-status", status, timeout=PATIENCE)


def history(page: Page) -> list[str]:
    return cast(list[str], page.evaluate("window.__seen"))


def test_while_the_server_is_away_badges_are_stale_and_not_offline_and_then_right_again(browser: Browser) -> None:
    with ServerProcess(SQLITE) as server:
        people = People(server)
        try:
            people.come("alice")
            people.come("carol")
            people.go("carol")
            users = open_admin(browser, server, "users")
            user = open_admin(browser, server, "users/alice")
            pages = ((users, "user-alice"), (user, "user-status"))
            for page, badge in pages:
                shows(page, badge, "online", stale=False)
                page.evaluate(_RECORD, badge)
            shows(users, "user-carol", "offline", stale=False)

            server.kill()
            for page, badge in pages:
                shows(page, badge, "online", stale=True)
                expect(page.get_by_test_id("feed")).to_have_attribute("data-state", "lost")
            shows(users, "user-carol", "offline", stale=True)
            server.start()
            for page, badge in pages:
                shows(page, badge, "online", stale=False)
            shows(users, "user-carol", "offline", stale=False)
            expect(user.get_by_test_id("fact-count")).to_have_text("1", timeout=PATIENCE)

            for page, _ in pages:
                told = history(page)
                assert told[:2] == ["online current", "online stale"] and told[-1] == "online current"
                assert not [seen for seen in told if "offline" in seen]
            people.come("dave")
            shows(users, "user-dave", "online", stale=False)
            for page, _ in pages:
                page.close()
        finally:
            people.close()


def test_of_a_server_that_forgot_everything_the_pages_ask_about_everybody_whom_they_knew(browser: Browser) -> None:
    with ServerProcess() as server:
        people = People(server)
        try:
            for user in ("alice", "bob"):
                people.come(user)
            page = open_admin(browser, server, "users")
            for user in ("alice", "bob"):
                shows(page, f"user-{user}", "online", stale=False)

            server.kill()
            people.go("bob")
            for user in ("alice", "bob"):
                shows(page, f"user-{user}", "online", stale=True)
            server.start()
            shows(page, "user-bob", "offline", stale=False)
            shows(page, "user-alice", "online", stale=False)
            page.close()
        finally:
            people.close()


def test_an_operator_who_looks_is_not_shown_as_somebody_who_is_here(browser: Browser) -> None:
    with ServerProcess() as server:
        people = People(server)
        try:
            people.come("alice")
            page = open_admin(browser, server, "users", server.token("operator", scope="admin"))
            shows(page, "user-alice", "online", stale=False)
            expect(page.get_by_test_id("feed")).to_have_attribute("data-state", "live")
            expect(page.get_by_test_id("users-count")).to_have_text("1 user")

            listed = server.get("/v1/users")[1]["users"]
            now = server.get("/v1/stats")[1]["now"]
            assert [user["user"] for user in listed] == ["alice"]
            assert (now["connections"], now["usersPresent"], now["usersKnown"]) == (1, 1, 1)
            assert not server.log(user="operator")
            page.close()
        finally:
            people.close()
