"""The settings and the what-if of the admin pages in a real browser: true, and nothing changes by looking."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.acceptance.browsing import launch
from tests.acceptance.crowd import enter
from tests.acceptance.server import ServerProcess
from tests.acceptance.test_admin_browser import AXE, log_in

pytestmark = pytest.mark.browser

PATIENCE = 30.0
"""Seconds; a machine may be busy."""

WINDOW = 200
"""Milliseconds: users who come back after they were shown offline come too late for it."""

SECRETS = {name: secrets.token_urlsafe(40) for name in ("hook", "query", "further key")}
"""What only the environment of the server knows, beside the secret and the key of every test."""

CARD = "whatif-going_away"

_DRAWN = """
([card, line]) => {
  const canvas = document.querySelector(`[data-testid="${card}"] canvas`);
  if (!canvas || canvas.width === 0) return false;
  const one = document.createElement("canvas").getContext("2d");
  one.fillStyle = getComputedStyle(canvas).getPropertyValue(line).trim();
  one.fillRect(0, 0, 1, 1);
  const [red, green, blue] = one.getImageData(0, 0, 1, 1).data;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let pixels = 0;
  for (let at = 0; at < data.length; at += 4) {
    const far = Math.abs(data[at] - red) + Math.abs(data[at + 1] - green) + Math.abs(data[at + 2] - blue);
    if (data[at + 3] > 200 && far < 30) pixels += 1;
  }
  return pixels > 8;
}
"""
"""Whether a line of the chart has pixels of its colour."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server that is told much, and has never had a user."""
    hook = {"url": f"https://hooks.invalid/presence?key={SECRETS['query']}", "secret": SECRETS["hook"]}
    told = {
        "grace.profile": "fast",
        "grace.going_away": 4321,
        "limits.watch": 1000,
        "admin.api_keys": [key := secrets.token_urlsafe(40), SECRETS["further key"]],
        "webhooks": [hook],
    }
    process = ServerProcess(told)
    process.api_key = key
    with process:
        yield process


@pytest.fixture(scope="module")
def recorded() -> Iterator[ServerProcess]:
    """A server at which two users came back too late for its window, but soon enough for a longer one."""
    with ServerProcess({"grace.going_away": WINDOW, "limits.false_offline_horizon_ms": 120_000}) as process:
        with ThreadPoolExecutor(1) as elsewhere:  # Playwright's loop runs in this thread
            made: Coroutine[Any, Any, None] = _late(process, "ada", "ben")
            elsewhere.submit(asyncio.run, made).result(3 * PATIENCE)
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture
def open_admin(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a view of the admin pages; at the end none of them may have complained, of the content policy least."""
    pages: list[Page] = []
    problems: list[str] = []

    def load(at: ServerProcess, view: str, **options: Any) -> Page:
        page = browser.new_context(viewport={"width": 1280, "height": 900}, **options).new_page()
        pages.append(page)
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{at.url}/admin#/{view}")
        log_in(page, at.api_key)
        page.get_by_test_id("role").wait_for()
        return page

    expect.set_options(timeout=PATIENCE * 1000)
    yield load
    expect.set_options(timeout=5000)
    for page in pages:
        page.context.close()
    assert problems == []


async def _late(server: ServerProcess, *users: str) -> None:
    """They go as a reload does, are shown offline, and come back."""
    tabs = {}
    for user in users:
        client = await enter(server.ws_url, server.token(user), f"t_{user}")
        await client.close(code=1001)
        await _until(partial(_offline, server, user))
        tabs[user] = await enter(server.ws_url, server.token(user), f"t_{user}")
    await _until(lambda: _counted(server) == len(users))
    for client in tabs.values():
        await client.send('{"type":"bye"}')  # an end without a window: what follows belongs to no figure
        await client.close()


def _offline(server: ServerProcess, user: str) -> bool:
    return bool(server.get(f"/v1/users/{user}")[1]["status"] == "offline")


def _counted(server: ServerProcess) -> int:
    return cast(int, server.get("/v1/stats")[1]["falseOffline"]["byCause"].get("going_away", 0))


async def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "what was awaited did not happen"
        await asyncio.sleep(0.02)


def _settings(server: ServerProcess) -> list[dict[str, Any]]:
    status, answer = server.get("/v1/settings")
    assert status == 200
    return cast(list[dict[str, Any]], answer["settings"])


def _faults(page: Page) -> list[str]:
    """What axe-core finds serious or critical, each in a line."""
    page.evaluate(AXE.read_text())
    found = cast(dict[str, list[dict[str, Any]]], page.evaluate("axe.run()"))
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}, "axe-core did not look"
    return [
        f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]


def _fits_a_phone(page: Page) -> bool:
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_function("document.documentElement.clientWidth === 360")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return cast(bool, page.evaluate("document.documentElement.scrollWidth <= 360"))


def test_every_setting_is_shown_and_those_that_differ_are_marked_with_where_they_came_from(
    open_admin: Callable[..., Page], server: ServerProcess
) -> None:
    page = open_admin(server, "settings")
    told = _settings(server)
    expect(page.get_by_test_id("settings-count")).to_have_text(f"{len(told)} settings")

    row = page.get_by_test_id("setting-grace.going_away")
    expect(row).to_have_attribute("data-changed", "true")
    expect(row).to_contain_text("4321")
    expect(row).to_contain_text("changed; default 8000")
    expect(row).to_contain_text("STILLHERE_GRACE__GOING_AWAY")
    expect(page.get_by_test_id("setting-grace.abnormal")).to_contain_text("grace.profile")
    same = page.get_by_test_id("setting-limits.watch")
    expect(same).to_have_attribute("data-changed", "false")
    expect(same).to_contain_text("STILLHERE_LIMITS__WATCH")
    expect(page.get_by_test_id("setting-timeline.days")).to_contain_text("default")

    marked = page.locator('[data-changed="true"]')
    assert marked.count() == sum(one["changed"] for one in told)
    page.get_by_role("button", name="changed", exact=True).click()
    expect(page.locator('[data-changed="false"]')).to_have_count(0)
    expect(page.get_by_test_id("settings-count")).to_have_text(f"{marked.count()} of {len(told)} settings")


def test_a_secret_from_the_environment_is_in_no_answer_and_nowhere_in_the_page(
    open_admin: Callable[..., Page], server: ServerProcess
) -> None:
    page = open_admin(server, "settings", permissions=["clipboard-read", "clipboard-write"])
    expect(page.get_by_test_id("setting-auth.secret")).to_contain_text("***")
    expect(page.get_by_test_id("setting-webhooks")).to_contain_text("hooks.invalid")
    page.get_by_text("As JSON", exact=True).click()
    page.get_by_test_id("settings-copy").click()
    expect(page.get_by_test_id("settings-told")).to_have_text("Copied.")
    copied = page.evaluate("navigator.clipboard.readText()")

    answered = json.dumps(server.get("/v1/settings")[1])
    for hidden in (server.secret, server.api_key, *SECRETS.values()):
        assert hidden not in answered
        assert hidden not in page.content()
        assert hidden not in copied
    assert json.loads(copied)["grace"]["going_away"] == 4321


def test_a_search_leaves_the_settings_that_have_every_word(
    open_admin: Callable[..., Page], server: ServerProcess
) -> None:
    page = open_admin(server, "settings")
    rows, search = page.locator("[data-changed]"), page.get_by_test_id("settings-search")
    expect(rows).to_have_count(len(_settings(server)))

    search.fill("GRACE away")
    expect(rows).to_have_count(1)
    expect(page.get_by_test_id("setting-grace.going_away")).to_be_visible()
    search.fill("stillhere_heartbeat__interval_ms")
    expect(rows).to_have_count(1)
    expect(page.get_by_test_id("setting-heartbeat.interval_ms")).to_be_visible()
    search.fill("nothing of the kind")
    expect(rows).to_have_count(0)
    expect(page.get_by_text("No setting is like that.")).to_be_visible()
    search.fill("")
    expect(rows).to_have_count(len(_settings(server)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_settings_have_no_serious_fault_of_accessibility_and_fit_a_phone(
    open_admin: Callable[..., Page], server: ServerProcess, scheme: str
) -> None:
    page = open_admin(server, "settings", color_scheme=scheme)
    page.get_by_test_id("setting-grace.going_away").wait_for()
    page.get_by_text("As JSON", exact=True).click()
    assert _faults(page) == []
    assert _fits_a_phone(page)
    assert _faults(page) == []


def test_a_window_moved_by_the_keyboard_shows_what_it_would_have_led_to_and_changes_no_setting(
    open_admin: Callable[..., Page], recorded: ServerProcess
) -> None:
    before = _settings(recorded)
    page = open_admin(recorded, "policy")
    slider = page.get_by_test_id(f"{CARD}-slider")
    window, false, ghost = (page.get_by_test_id(f"{CARD}-{name}") for name in ("window", "false", "ghost"))
    expect(page.get_by_test_id("whatif-basis")).to_contain_text("of 2 users")
    expect(window).to_have_text("200 ms")
    expect(false).to_have_text("2")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"^window 200 ms: 2 false offlines \(the same\), "))

    (cause,) = recorded.get("/v1/policy/replay?cause=going_away")[1]["causes"]
    assert (cause["ends"], cause["recordedMs"], cause["recorded"]["falseOfflines"]) == (2, [WINDOW], 2)
    assert cause["recorded"]["ghostMs"] >= 2 * WINDOW
    longer = [tried for tried in cause["tried"] if tried["windowMs"] > WINDOW]
    for line in ("--busy", "--away"):
        page.wait_for_function(_DRAWN, arg=[CARD, line])
    slider.focus()
    for tried in longer:
        page.keyboard.press("ArrowRight")
        expect(slider).to_have_attribute("aria-valuetext", re.compile(f"^window {_length(tried['windowMs'])}: "))
        expect(false).to_have_text(str(tried["falseOfflines"]))
    expect(window).to_have_text("5 min")
    expect(false).to_have_text("0")
    expect(page.get_by_test_id(CARD)).to_contain_text("2 fewer")
    expect(ghost).to_have_text("0 ms")
    page.keyboard.press("Home")
    expect(window).to_have_text("0 ms")
    expect(false).to_have_text("2")
    page.get_by_role("button", name="Back to the window in force").click()
    expect(window).to_have_text("200 ms")

    assert _settings(recorded) == before


def _length(ms: int) -> str:
    """As the page writes the windows that are tried."""
    if ms < 1000:
        return f"{ms} ms"
    return f"{ms // 1000} s" if ms <= 90_000 else f"{ms // 60_000} min"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_what_if_has_no_serious_fault_of_accessibility_and_fits_a_phone(
    open_admin: Callable[..., Page], recorded: ServerProcess, scheme: str
) -> None:
    page = open_admin(recorded, "policy", color_scheme=scheme)
    page.get_by_test_id(f"{CARD}-slider").press("End")
    expect(page.get_by_test_id(f"{CARD}-window")).to_have_text("5 min")
    page.get_by_test_id("policy-going_away").wait_for()
    assert _faults(page) == []
    assert _fits_a_phone(page)
    assert _faults(page) == []
