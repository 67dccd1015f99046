"""The built TypeScript client in Firefox, with the real server: what another engine makes of page events.

Firefox closes the sockets of a page by itself, with 1001, as soon as a navigation begins: before ``pagehide``, before
the new page has answered, and also where the page then stays. So the cause is mostly ``going_away``, and the client may
be about to connect again when its page goes away. A page that had a socket does not get into its back/forward cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import cast
from urllib.parse import quote

import pytest

from tests.acceptance.bidi import Firefox, Tab, Window, firefox_path
from tests.acceptance.browsing import another_site
from tests.acceptance.sdk_page import DIST, NOT_BUILT, Site
from tests.acceptance.server import ServerProcess

WINDOW = 3000
"""The window after a page has gone, in milliseconds."""

LEFT = {"going_away", "page_hidden"}
"""Causes of a page that went away: Firefox's own close, or that of a client that had just connected again."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (DIST / "index.js").is_file(), reason=NOT_BUILT),
    pytest.mark.skipif(firefox_path() is None, reason="Firefox is not installed: apt-get install firefox-esr"),
]


class Someone:
    """A user in a window of his own."""

    def __init__(self, window: Window, site: Site, server: ServerProcess, name: str) -> None:
        """Open no tab yet."""
        self.window = window
        self._address = f"{site.origin}/?user={quote(name)}&server={quote(server.ws_url)}"

    def tab(self, *watch: str) -> Tab:
        """A tab that is online and follows these users."""
        tab = self.window.tab()
        tab.goto(self._address + "".join(f"&watch={quote(user)}" for user in watch))
        online(tab)
        for user in watch:
            tab.wait_for(f"!client.get('{user}').stale")
        return tab


def online(tab: Tab) -> None:
    """Wait until the page is connected."""
    tab.wait_for("window.client?.status === 'online'")


def seen(tab: Tab) -> list[list[str]]:
    """Every difference that the page was told to show: user and status, in order."""
    return cast(list[list[str]], tab.evaluate("window.seen"))


def tab_id(tab: Tab) -> str:
    """Under which id the page connects."""
    return cast(str, tab.evaluate("sessionStorage.getItem('stillhere.tab')"))


def causes(server: ServerProcess, user: str) -> set[str]:
    """Why windows were opened for a user, by the server's log."""
    return {line["cause"] for line in server.log("grace_started", user=user)}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    started = Site()
    yield started
    started.close()


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[ServerProcess]:
    with ServerProcess(
        {"origins.allowed": [site.origin], "grace.page_hidden": WINDOW, "grace.going_away": WINDOW}
    ) as process:
        site.token = process.token
        yield process


@pytest.fixture(scope="module")
def firefox() -> Iterator[Firefox]:
    with Firefox() as started:
        yield started


@pytest.fixture
def enter(firefox: Firefox, site: Site, server: ServerProcess) -> Iterator[Callable[[str], Someone]]:
    windows: list[Window] = []

    def one(name: str) -> Someone:
        windows.append(firefox.window())
        return Someone(windows[-1], site, server, name)

    yield one
    for window in windows:
        window.close()


def test_ten_reloads_are_seen_by_nobody(enter: Callable[[str], Someone], server: ServerProcess) -> None:
    watching = enter("ben").tab("ann")
    page = enter("ann").tab()
    before = tab_id(page)

    for _ in range(10):
        page.reload()
    online(page)
    time.sleep(0.3)

    assert seen(watching) == [["ann", "offline"], ["ann", "online"]]  # offline before the first visit
    assert tab_id(page) == before
    assert server.log("PRESENCE_OFFLINE", user="ann") == []
    assert "going_away" in causes(server, "ann")
    # a page that is reloaded while it still connects can only break off
    assert causes(server, "ann") <= {*LEFT, "abnormal"}


def test_away_to_another_site_and_back_through_the_history(
    enter: Callable[[str], Someone], server: ServerProcess
) -> None:
    page, watching = enter("eve").tab(), enter("fay").tab("eve")
    before = tab_id(page)

    with another_site() as elsewhere:
        page.goto(elsewhere)
        server.wait_log("grace_started", user="eve")
        time.sleep(1)
        page.back()
        online(page)
    page.wait_for("client.self.user === 'eve'")
    time.sleep(0.3)

    assert tab_id(page) == before
    assert seen(watching) == [["eve", "online"]]
    assert server.log("PRESENCE_OFFLINE", user="eve") == []
    assert causes(server, "eve") <= LEFT


def test_a_page_from_the_back_forward_cache_connects_again(
    enter: Callable[[str], Someone], server: ServerProcess
) -> None:
    page, watching = enter("ivy").tab(), enter("jon").tab("ivy")
    before = tab_id(page)
    page.evaluate("client.disconnect()")  # a page without a socket gets into the cache
    watching.wait_for("client.get('ivy').status === 'offline'", 3)
    page.evaluate("void (window.mark = 1)")

    with another_site() as elsewhere:
        page.goto(elsewhere)
        page.back()
        page.wait_for("window.restored !== undefined")
    assert page.evaluate("[window.mark, window.restored]") == [1, True]
    page.evaluate("client.connect()")
    online(page)
    watching.wait_for("client.get('ivy').status === 'online'", 3)

    assert tab_id(page) == before
    assert seen(watching) == [["ivy", "online"], ["ivy", "offline"], ["ivy", "online"]]


def test_a_slow_navigation_is_seen_by_nobody(
    enter: Callable[[str], Someone], site: Site, server: ServerProcess
) -> None:
    page, watching = enter("kit").tab(), enter("lou").tab("kit")
    before = tab_id(page)

    page.follow(f"{site.origin}/slow")
    page.wait_for("document.title === 'slow'")
    page.back()
    online(page)
    time.sleep(0.3)

    assert tab_id(page) == before
    assert seen(watching) == [["kit", "online"]]
    assert server.log("PRESENCE_OFFLINE", user="kit") == []
    assert causes(server, "kit") <= LEFT


def test_a_link_that_leads_nowhere_leaves_the_page_connected(
    enter: Callable[[str], Someone], site: Site, server: ServerProcess
) -> None:
    page, watching = enter("pia").tab(), enter("quin").tab("pia")
    before = tab_id(page)
    page.evaluate("void (window.mark = 1)")

    page.follow(f"{site.origin}/nothing")
    time.sleep(2)  # longer than a client waits that was closed
    online(page)

    assert page.evaluate("window.mark") == 1
    assert tab_id(page) == before
    assert server.get("/v1/users/pia/diagnostics")[1]["activeConnectionCount"] == 1
    assert seen(watching) == [["pia", "online"]]
    assert causes(server, "pia") <= LEFT


def test_a_closed_tab_is_seen_once_and_after_its_window(enter: Callable[[str], Someone], server: ServerProcess) -> None:
    page, watching = enter("gus").tab(), enter("hal").tab("gus")

    page.close()
    began = time.monotonic()
    server.wait_log("grace_started", user="gus")
    watching.wait_for("client.get('gus').status === 'offline'", WINDOW / 1000 + 3)
    took = time.monotonic() - began

    assert took >= WINDOW / 1000 - 1
    assert seen(watching) == [["gus", "online"], ["gus", "offline"]]
    (offline,) = server.log("PRESENCE_OFFLINE", user="gus")
    assert offline["cause"] in LEFT


def test_a_duplicated_tab_is_a_tab_of_its_own(enter: Callable[[str], Someone], server: ServerProcess) -> None:
    someone = enter("cleo")
    page, watching = someone.tab(), enter("dan").tab("cleo")

    page.evaluate("void window.open(location.href)", touched=True)  # the new tab begins with a copy of the storage
    (duplicate,) = [tab for tab in someone.window.tabs() if tab.context != page.context]
    online(duplicate)
    ids = tab_id(page), tab_id(duplicate)
    duplicate.reload()
    online(duplicate)

    assert ids[0] != ids[1]
    assert (tab_id(page), tab_id(duplicate)) == ids
    assert page.evaluate("client.status") == "online"
    assert server.get("/v1/users/cleo/diagnostics")[1]["activeConnectionCount"] == 2
    duplicate.close()
    time.sleep(WINDOW / 1000 + 1)
    assert seen(watching) == [["cleo", "online"]]
    assert server.get("/v1/users/cleo/diagnostics")[1]["activeConnectionCount"] == 1


def test_a_log_out_is_seen_at_once(enter: Callable[[str], Someone], server: ServerProcess) -> None:
    page, watching = enter("lea").tab(), enter("mo").tab("lea")

    page.evaluate("client.disconnect()")
    watching.wait_for("client.get('lea').status === 'offline'", 3)
    page.evaluate("client.connect()")
    watching.wait_for("client.get('lea').status === 'online'", 3)

    assert seen(watching) == [["lea", "online"], ["lea", "offline"], ["lea", "online"]]
    assert [line["cause"] for line in server.log("PRESENCE_OFFLINE", user="lea")] == ["bye"]
