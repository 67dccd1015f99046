"""The built TypeScript client in a real browser, with the real server: what a page may do without anybody noticing."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import cast
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.acceptance.browsing import another_site, launch
from tests.acceptance.hosting import Host
from tests.acceptance.sdk_page import DIST, NOT_BUILT, PAGE, Site
from tests.acceptance.server import ServerProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (DIST / "index.js").is_file(),
        reason=NOT_BUILT,
    ),
]


class Someone:
    """A user in a browser of his own."""

    def __init__(self, browser: Browser, site: Site, server: ServerProcess, name: str) -> None:
        """Open an empty browser window for a user."""
        self.name = name
        self.context: BrowserContext = browser.new_context()
        self.errors: list[str] = []
        self.context.on("weberror", lambda error: self.errors.append(str(error.error)))
        self._address = f"{site.origin}/?user={quote(name)}&server={quote(server.ws_url)}"

    def tab(self, *watch: str) -> Page:
        """A tab that is online and follows these users."""
        page = self.context.new_page()
        page.goto(self._address + "".join(f"&watch={quote(user)}" for user in watch))
        online(page)
        for user in watch:
            page.wait_for_function("(user) => !client.get(user).stale", arg=user)
        return page


def online(page: Page, timeout: float = 15.0) -> None:
    """Wait until the page is connected."""
    page.wait_for_selector('#status[data-status="online"]', state="attached", timeout=timeout * 1000)


def seen(page: Page) -> list[list[str]]:
    """Every difference that the page was told to show: user and status, in order."""
    return cast(list[list[str]], page.evaluate("window.seen"))


def tab_id(page: Page) -> str:
    """Under which id the page connects."""
    return cast(str, page.evaluate("sessionStorage.getItem('stillhere.tab')"))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    started = Site()
    yield started
    started.close()


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[ServerProcess]:
    settings = {"origins.allowed": [site.origin], "store.url": "sqlite:///presence.db"}
    with ServerProcess(settings) as process:
        site.token = process.token
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture
def enter(browser: Browser, site: Site, server: ServerProcess) -> Iterator[Callable[[str], Someone]]:
    people: list[Someone] = []

    def one(name: str) -> Someone:
        people.append(Someone(browser, site, server, name))
        return people[-1]

    yield one
    for someone in people:
        someone.context.close()
        assert someone.errors == []


def test_reloads_soft_and_hard_are_seen_by_nobody(enter: Callable[[str], Someone], server: ServerProcess) -> None:
    page, watching = enter("ann").tab(), enter("ben").tab("ann")
    before = tab_id(page)

    for _ in range(10):
        page.reload()
    online(page)
    for _ in range(3):
        page.context.new_cdp_session(page).send("Page.reload", {"ignoreCache": True})
        page.wait_for_load_state("load")
        online(page)
    time.sleep(0.3)

    assert seen(watching) == [["ann", "online"]]
    assert tab_id(page) == before
    assert server.log("PRESENCE_OFFLINE", user="ann") == []
    assert server.log("grace_started", user="ann", cause="page_hidden") != []
    # a page that is reloaded while it still connects can only break off
    causes = {line["cause"] for line in server.log("grace_started", user="ann")}
    assert causes <= {"page_hidden", "going_away", "abnormal"}


def test_a_duplicated_tab_is_a_tab_of_its_own(enter: Callable[[str], Someone], server: ServerProcess) -> None:
    page, watching = enter("cleo").tab(), enter("dan").tab("cleo")

    with page.expect_popup() as opening:
        page.evaluate("void window.open(location.href)")
    duplicate = opening.value
    online(duplicate)
    ids = tab_id(page), tab_id(duplicate)
    duplicate.reload()
    online(duplicate)

    assert ids[0] != ids[1]
    assert (tab_id(page), tab_id(duplicate)) == ids
    assert page.evaluate("client.status") == "online"
    diagnostics = server.get("/v1/users/cleo/diagnostics")[1]
    assert diagnostics["activeConnectionCount"] == 2
    duplicate.close()
    time.sleep(0.3)
    assert seen(watching) == [["cleo", "online"]]


def test_away_to_another_site_and_back_from_the_cache(enter: Callable[[str], Someone], server: ServerProcess) -> None:
    page, watching = enter("eve").tab(), enter("fay").tab("eve")
    before = tab_id(page)

    with another_site() as elsewhere:
        page.goto(elsewhere)
        server.wait_log("grace_started", user="eve", cause="page_hidden")
        time.sleep(1)
        page.go_back(wait_until="commit")
        online(page)
    time.sleep(0.3)

    assert page.evaluate("window.restored") is True, "the page did not come from the back/forward cache"
    assert page.evaluate("client.self.user") == "eve"
    assert tab_id(page) == before
    assert seen(watching) == [["eve", "online"]]


def test_a_frozen_page_and_a_dropped_network_are_seen_by_nobody(enter: Callable[[str], Someone]) -> None:
    someone, watching = enter("gus"), enter("hal").tab("gus")
    page = someone.tab()
    watching.wait_for_function("client.get('gus').status === 'online'")
    session = page.context.new_cdp_session(page)

    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    time.sleep(2)
    session.send("Page.setWebLifecycleState", {"state": "active"})
    online(page)
    someone.context.set_offline(True)
    time.sleep(4)  # longer than the client waits for an answer
    someone.context.set_offline(False)
    online(page)
    time.sleep(0.5)

    assert [status for _, status in seen(watching)][-1] == "online"
    assert "offline" not in [status for _, status in seen(watching)[1:]]
    assert page.evaluate("client.status") == "online"


@pytest.mark.parametrize("crash", [False, True], ids=["drain", "crash"])
def test_a_restart_of_the_server_is_seen_by_nobody(
    enter: Callable[[str], Someone], server: ServerProcess, crash: bool
) -> None:
    name = "ida" if crash else "jo"
    page, watching = enter(name).tab(), enter("kim").tab(name)
    watching.evaluate(
        """(name) => {
          window.worst = [];
          client.subscribe(() => window.worst.push(client.get(name).status));
        }""",
        name,
    )

    server.signal(signal.SIGKILL if crash else signal.SIGTERM)
    server.wait()
    watching.wait_for_function("(name) => client.get(name).stale", arg=name)
    assert watching.evaluate("(name) => client.get(name).status", name) == "online"
    server.start()
    online(page, 20)
    online(watching, 20)
    watching.wait_for_function("(name) => !client.get(name).stale", arg=name)
    time.sleep(0.5)

    assert seen(watching) == [[name, "online"]]
    assert set(watching.evaluate("window.worst")) == {"online"}


def test_a_log_out_is_seen_at_once_and_a_log_in_after_it(enter: Callable[[str], Someone]) -> None:
    page, watching = enter("lea").tab(), enter("mo").tab("lea")

    page.evaluate("client.disconnect()")
    watching.wait_for_function("client.get('lea').status === 'offline'", timeout=3_000)
    page.evaluate("client.connect()")
    watching.wait_for_function("client.get('lea').status === 'online'", timeout=3_000)

    assert seen(watching) == [["lea", "online"], ["lea", "offline"], ["lea", "online"]]


def test_an_invisible_user_who_reloads_does_not_flash_up(enter: Callable[[str], Someone]) -> None:
    page, watching = enter("nia").tab(), enter("oz").tab("nia")
    page.evaluate("client.setAvailability('invisible')")
    watching.wait_for_function("client.get('nia').status === 'offline'", timeout=3_000)

    for _ in range(3):
        page.reload()
        online(page)
    time.sleep(0.3)

    assert seen(watching) == [["nia", "online"], ["nia", "offline"]]


def test_a_token_that_the_server_does_not_take_is_refused_with_its_words(
    enter: Callable[[str], Someone], site: Site, server: ServerProcess
) -> None:
    page = enter("pat").tab()
    site.token = lambda user: server.token(user) + "x"
    try:
        page.evaluate("client.disconnect()")
        page.evaluate("Math.random = () => 0.05")  # the attempts follow each other quickly
        page.evaluate("client.connect()")
        page.wait_for_function("client.status === 'refused'", timeout=20_000)
    finally:
        site.token = server.token

    assert page.evaluate("client.connection.error.code") == "unauthorized"
    assert "signature" in page.evaluate("client.connection.error.message").lower()
    assert "unauthorized" in page.evaluate("window.problems")


def test_a_page_whose_host_knows_its_users_by_a_cookie_needs_no_token(browser: Browser) -> None:
    with Host("tests.acceptance.apps.embedded:plain") as host:
        address = f"http://127.0.0.1:{host.port}"

        def page(name: str, *watch: str) -> Page:
            context = browser.new_context(bypass_csp=True)
            context.add_cookies([{"name": "who", "value": name, "url": address}])
            context.route(f"{address}/dist/index.js", lambda route: route.fulfill(path=DIST / "index.js"))
            opened = context.new_page()
            opened.goto(f"{address}/page?server=/ws" + "".join(f"&watch={user}" for user in watch))
            show(opened)
            return opened

        def show(page: Page) -> None:
            page.set_content(PAGE)  # the host has no page; one that was not loaded from it might not connect to it
            online(page)

        alice = page("alice")
        bob = page("bob", "alice")
        bob.wait_for_function("client.get('alice').status === 'online'")
        alice.reload()
        show(alice)
        assert alice.evaluate("client.self.user") == "alice"
        assert alice.evaluate("window.problems") == []
        alice.evaluate("client.disconnect()")
        bob.wait_for_function("client.get('alice').status === 'offline'", timeout=3_000)
        assert seen(bob) == [["alice", "online"], ["alice", "offline"]]
        alice.context.close()
        bob.context.close()
