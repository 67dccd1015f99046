"""The React example is built as its reader would build it, and used by two people in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.acceptance.browsing import badge, badge_history, launch, watch_badge
from tests.acceptance.server import ServerProcess, environment

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "react"
VITE = EXAMPLE / "node_modules" / "vite" / "bin" / "vite.js"
BUILT_CLIENT = ROOT / "clients" / "typescript" / "dist" / "react.js"
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
"""Where the preview says that it serves."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(60),
    pytest.mark.skipif(shutil.which("npm") is None, reason="there is no Node"),
    pytest.mark.skipif(not BUILT_CLIENT.is_file(), reason="the TypeScript client is not built: make sdk"),
]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the built example; its types were checked on the way."""
    if not VITE.is_file():
        installed = npm("ci", "--no-audit", "--no-fund", "--prefer-offline", timeout=40)
        if installed.returncode != 0:
            pytest.skip(f"the example's packages cannot be installed: {installed.stderr[-300:]}")
    folder = tmp_path_factory.mktemp("react")
    built = npm("run", "build", "--", "--outDir", str(folder), "--emptyOutDir", timeout=40)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def npm(*arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run npm in the example's folder, for so many seconds at most."""
    return subprocess.run(
        ["npm", *arguments], cwd=EXAMPLE, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(dev=True) as process:
        yield process


@pytest.fixture(scope="module")
def site(build: Path, server: ServerProcess) -> Iterator[str]:
    """Where the built example is served, with the presence server behind the same origin."""
    node = shutil.which("node")
    assert node is not None
    process = subprocess.Popen(
        [node, str(VITE), "preview", "--outDir", str(build), "--port", "0"],
        cwd=EXAMPLE,
        env={**environment(), "STILLHERE_URL": server.url, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = ""
        while (found := ADDRESS.search(said)) is None:
            line = process.stdout.readline()
            assert line, f"the preview ended: {said}"
            said += line
        yield found[0]
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture
def enter(browser: Browser, site: str) -> Iterator[Callable[[str], Page]]:
    pages: list[Page] = []
    errors: list[str] = []

    def log_in(name: str) -> Page:
        page = browser.new_context().new_page()
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(site)
        page.get_by_label("Your name").fill(name)
        page.get_by_role("button", name="Log in").click()
        online(page)
        return page

    yield log_in
    for page in pages:
        page.context.close()
    assert errors == []


def online(page: Page) -> None:
    """Wait until the page says that it is connected."""
    page.wait_for_selector('[data-testid="connection"][data-status="online"]', timeout=15_000)


def test_the_example_says_how_it_is_started() -> None:
    head = (EXAMPLE / "src" / "main.tsx").read_text().partition("*/")[0]
    assert re.search(r"^ \*     make sdk && .*npm start$", head, re.MULTILINE)


def test_two_people_see_each_other_a_reload_shows_nothing_and_a_log_out_is_seen(enter: Callable[[str], Page]) -> None:
    alice, bob = enter("alice"), enter("bob")
    badge(bob, "alice", "online")
    watch_badge(bob, "alice")
    for user in ("alice", "bob"):
        bob.wait_for_selector(f'[data-testid="member-{user}"][data-stale="false"]')

    for _ in range(3):
        alice.reload()
        online(alice)
    time.sleep(0.5)
    assert badge_history(bob) == ["online"]

    alice.get_by_role("button", name="busy").click()
    badge(bob, "alice", "busy")
    alice.get_by_role("button", name="Log out").click()
    badge(bob, "alice", "offline", timeout=3)
    alice.get_by_label("Your name").wait_for()
    assert badge_history(bob) == ["online", "busy", "offline"]


def test_without_a_server_the_last_status_stays_and_is_dimmed(
    enter: Callable[[str], Page], server: ServerProcess
) -> None:
    alice, bob = enter("alice"), enter("bob")
    badge(bob, "alice", "online")
    watch_badge(bob, "alice")

    server.kill()

    bob.wait_for_selector('[data-testid="person-alice"][data-status="online"][data-stale="true"]', timeout=5_000)
    bob.wait_for_selector('[data-testid="connection"][data-status="reconnecting"]')
    alice.wait_for_selector('[data-testid="member-bob"][data-stale="true"]')
    assert badge_history(bob) == ["online"]
