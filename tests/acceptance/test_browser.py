"""Two people in a real browser, one of them reloading: the scenario that this project began with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.acceptance.browsing import (
    Person,
    another_site,
    badge,
    badge_history,
    connected,
    launch,
    shown,
    watch_badge,
)
from tests.acceptance.server import ServerProcess

pytestmark = pytest.mark.browser

RELOADS = 200
EXPECTED_ORDER = [
    "active_socket_closed",
    "user_disconnected",
    "ws_closed",
    "connection_established",
    "user_reconnected",
]
"""What the filter of the protocol shows of one reload; the old socket's close may come after the new one's opening."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(dev=True) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture
def person(browser: Browser, server: ServerProcess) -> Iterator[Callable[..., Person]]:
    people: list[Person] = []

    def enter(name: str, **options: object) -> Person:
        someone = Person(browser, server.url, name, **options)
        people.append(someone)
        return someone

    yield enter
    for someone in people:
        someone.close()
        assert someone.errors == []


def _hard_reload(page: Page) -> None:
    page.context.new_cdp_session(page).send("Page.reload", {"ignoreCache": True})
    page.wait_for_load_state("load")
    connected(page)


def test_two_tabs_a_hard_reload_and_an_offline_toggle_are_never_shown(person: Callable[..., Person]) -> None:
    alice, bob = person("ann"), person("ben")
    tab_a, tab_b = alice.tab(), alice.tab()
    watching = bob.tab()
    watch_badge(watching, "ann")

    _hard_reload(tab_a)
    alice.context.set_offline(True)
    time.sleep(3)
    alice.context.set_offline(False)
    connected(tab_a)
    connected(tab_b)
    time.sleep(1)

    assert badge_history(watching) == ["online"]
    assert set(shown(watching, "ann")) == {"online"}


def test_two_hundred_reloads_in_a_row_show_nothing(person: Callable[..., Person], server: ServerProcess) -> None:
    alice, bob = person("cleo"), person("dan")
    page = alice.tab()
    watching = bob.tab()
    watch_badge(watching, "cleo")
    before = shown(watching, "cleo")
    mark = len(server.log())

    for _ in range(RELOADS):
        page.reload()
    connected(page)
    time.sleep(1)

    assert badge_history(watching) == ["online"]
    assert shown(watching, "cleo") == before
    said = [line for line in server.log()[mark:] if line.get("user") == "cleo"]
    assert [line for line in said if line["event"] == "PRESENCE_OFFLINE"] == []
    # a page that is reloaded again before it connected leaves no trace: there are at most as many as reloads
    assert 1 <= sum(line["event"] == "connection_established" for line in said) <= RELOADS + 1


def test_the_log_filter_shows_the_order_of_a_reload(person: Callable[..., Person], server: ServerProcess) -> None:
    page = person("eve").tab()
    time.sleep(0.5)
    mark = len(server.log())

    page.reload()
    connected(page)

    said = [line["event"] for line in server.log()[mark:] if line.get("user") == "eve"]
    assert [event for event in said if event in EXPECTED_ORDER] == EXPECTED_ORDER
    assert "grace_started" in said
    assert "grace_cancelled" in said
    assert not any(event.startswith("PRESENCE_") for event in said)


def test_away_to_another_site_and_back_is_not_shown(person: Callable[..., Person]) -> None:
    alice, bob = person("fay"), person("gus")
    page = alice.tab()
    watching = bob.tab()
    watch_badge(watching, "fay")

    with another_site() as elsewhere:
        page.goto(elsewhere)
        time.sleep(2)
        page.go_back(wait_until="commit")
        connected(page)
    time.sleep(1)

    assert badge_history(watching) == ["online"]


def test_a_dropped_network_is_not_shown(person: Callable[..., Person]) -> None:
    alice, bob = person("hal"), person("ida")
    page = alice.tab()
    watching = bob.tab()
    watch_badge(watching, "hal")

    page.get_by_test_id("btn-drop").click()
    page.wait_for_selector('[data-testid="connection-status"]:not([data-state="open"])')
    connected(page)
    time.sleep(0.5)

    assert badge_history(watching) == ["online"]


def test_away_busy_invisible_and_log_out_are_shown_as_they_are(person: Callable[..., Person]) -> None:
    alice, bob = person("jo"), person("kim")
    page = alice.tab()
    watching = bob.tab()
    watch_badge(watching, "jo")

    for button, status in (("away", "away"), ("busy", "busy"), ("active", "online"), ("invisible", "offline")):
        page.get_by_test_id(f"btn-{button}").click()
        badge(watching, "jo", status)
    page.reload()
    connected(page)
    page.get_by_test_id("btn-active").click()
    badge(watching, "jo", "online")
    page.get_by_test_id("btn-logout").click()
    badge(watching, "jo", "offline", timeout=3)

    # a reload while invisible shows nothing either
    assert badge_history(watching) == ["online", "away", "busy", "online", "offline", "online", "offline"]


def test_a_closed_window_is_offline_after_its_window_and_not_before(person: Callable[..., Person]) -> None:
    alice, bob = person("lea"), person("mo")
    alice.tab()
    watching = bob.tab()
    watch_badge(watching, "lea")

    began = time.monotonic()
    alice.close()
    badge(watching, "lea", "offline", timeout=12)

    assert time.monotonic() - began > 7.5


def test_people_in_a_room_see_each_other_and_a_reload_does_not_empty_it(person: Callable[..., Person]) -> None:
    alice, bob = person("nia"), person("oz")
    pages = [alice.tab(), bob.tab()]
    for page in pages:
        page.get_by_test_id("room-input").fill("kitchen")
        page.get_by_test_id("room-join").click()
    member = '[data-testid="room-member-nia"]'
    pages[1].wait_for_selector(member)
    pages[1].evaluate(
        """(member) => {
          window.__gone = 0;
          new MutationObserver(() => { if (!document.querySelector(member)) window.__gone += 1; })
            .observe(document.body, { subtree: true, childList: true });
        }""",
        member,
    )

    for _ in range(5):
        pages[0].reload()
        connected(pages[0])
    pages[0].wait_for_selector(member)

    assert pages[1].evaluate("window.__gone") == 0


def test_an_id_of_markup_is_shown_as_text(person: Callable[..., Person]) -> None:
    name = "<img src=x onerror=alert(1)>"
    person(name).tab()
    watching = person("pat").tab()

    watching.wait_for_selector(f'[data-testid="person-{name}"]')

    assert watching.locator("img[src=x]").count() == 0
    assert name in watching.inner_text("body")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_both_colour_schemes(person: Callable[..., Person], scheme: str) -> None:
    page = person(f"quinn-{scheme}", viewport={"width": 360, "height": 740}, color_scheme=scheme).tab()

    width = page.evaluate("document.documentElement.scrollWidth")
    background = page.evaluate(
        """[document.body, document.documentElement].map((e) => getComputedStyle(e).backgroundColor)
           .find((colour) => colour !== "rgba(0, 0, 0, 0)")"""
    )

    assert width <= 360
    brightness = sum(int(part) for part in background[background.index("(") + 1 : -1].split(",")[:3]) / 3
    assert brightness > 128 if scheme == "light" else brightness < 128


def test_the_page_can_be_used_with_the_keyboard_alone(person: Callable[..., Person], server: ServerProcess) -> None:
    page = person("rae").context.new_page()
    page.goto(server.url)
    page.get_by_test_id("sign-in-name").focus()
    page.keyboard.type("rae")
    page.keyboard.press("Enter")
    connected(page)

    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.testid") == "btn-drop":
            break

    assert page.evaluate("document.activeElement.dataset.testid") == "btn-drop"
    outline = page.evaluate(
        "(() => { const s = getComputedStyle(document.activeElement);"
        " return s.outlineStyle !== 'none' || s.boxShadow !== 'none'; })()"
    )
    assert outline


def test_the_api_can_be_browsed(browser: Browser, server: ServerProcess) -> None:
    page = browser.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(f"{server.url}/docs")
    page.get_by_text("/v1/users/{user}/diagnostics").first.wait_for(timeout=15_000)
    page.close()

    assert problems == []
