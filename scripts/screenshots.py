"""Makes docs/images/admin-*.png: the admin pages of a real server with a small crowd on it.

    make screenshots
    python -m scripts.screenshots --only user --out pictures

The crowd always does the same: see :class:`Crowd`. Colours are the light ones, times are UTC.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.acceptance.browsing import launch
from tests.acceptance.server import ServerProcess

OUT = Path(__file__).parents[1] / "docs" / "images"
SIZE = ViewportSize(width=1100, height=700)
LARGEST = 120_000
"""Bytes: pictures are kept in the repository."""
PACE = 0.4
"""Seconds between two people who come."""
PATIENCE = 30.0
"""Seconds in which a page shows what it is about, on a busy machine."""

SETTINGS = {"grace.going_away": 20_000, "grace.abnormal": 1_500}
"""A window that is long enough to be photographed, and one that is short enough to be too short."""

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
AGENTS = {"laptop": CHROME, "phone": FIREFOX, "tablet": FIREFOX}

PEOPLE = {
    "alice": ("laptop", "phone"),
    "bob": ("laptop",),
    "carol": ("laptop", "phone", "tablet"),
    "dave": ("laptop",),
    "erin": ("phone",),
    "frank": ("laptop",),
    "heidi": ("laptop", "phone"),
    "ivan": ("phone",),
    "judy": ("laptop",),
    "mallory": ("laptop",),
}
ROOMS = {
    "kitchen": ("alice", "bob", "carol", "dave", "judy"),
    "design": ("carol", "erin", "heidi"),
    "support": ("alice", "ivan"),
}


class Device:
    """A tab on somebody's device."""

    def __init__(self, server: ServerProcess, user: str, kind: str, rooms: Sequence[str] = ()) -> None:
        """Stay away until :meth:`come`.

        Args:
            server: where to connect.
            user: whose.
            kind: a key of :data:`AGENTS`.
            rooms: to be in while it is connected.
        """
        self._rooms = rooms
        self._url = f"{server.ws_url}?tab={user}-{kind}"
        self._token = server.token(user, sid=f"{user}-{kind}")
        self._agent = AGENTS[kind]
        self._client: ClientConnection | None = None
        self._ends = contextlib.ExitStack()

    def come(self) -> None:
        """Connect, wait for the welcome, and go into the rooms."""
        opening = connect(
            self._url,
            subprotocols=[Subprotocol("stillhere.v1"), Subprotocol(f"bearer.{self._token}")],
            user_agent_header=self._agent,
            compression=None,
            ping_interval=None,
            max_queue=None,
            proxy=None,
            open_timeout=PATIENCE,
        )
        self._ends = contextlib.ExitStack()
        self._client = self._ends.enter_context(opening)
        welcome = json.loads(self._client.recv(PATIENCE))
        assert welcome["type"] == "welcome", welcome
        for number, room in enumerate(self._rooms, 1):
            self.say(type="join", id=number, room=room)

    def say(self, **message: object) -> None:
        """Send a message."""
        assert self._client is not None, "it is not connected"
        self._client.send(json.dumps(message))

    def leave(self, code: int = 1001) -> None:
        """Close, as a page does that goes away."""
        if self._client is not None:
            self._client.close(code)
            self._ends.close()
            self._client = None

    def reload(self) -> None:
        """Go away and come back."""
        self.leave()
        time.sleep(0.3)
        self.come()

    def vanish(self) -> None:
        """End without a word, as a lost network does."""
        assert self._client is not None, "it is not connected"
        self._client.socket.shutdown(socket.SHUT_RDWR)
        self._client = None


class Crowd:
    """Ten people.

    Alice and Bob reload, Carol has three devices, Dave and Heidi are busy, Erin is away, Ivan says goodbye, Frank is
    kicked, Mallory comes back after her window has run out (a false offline), and Judy has just gone: her window runs.
    """

    def __init__(self, server: ServerProcess) -> None:
        """Nobody is there before :meth:`arrive`."""
        self.server = server
        self.devices: dict[tuple[str, str], Device] = {}
        for user, kinds in PEOPLE.items():
            rooms = [room for room, people in ROOMS.items() if user in people]
            for kind in kinds:
                self.devices[user, kind] = Device(server, user, kind, rooms if kind == kinds[0] else ())

    def arrive(self) -> None:
        """Everybody comes, one after the other, so that the charts have something to draw."""
        for device in self.devices.values():
            device.come()
            time.sleep(PACE)

    def live(self) -> None:
        """What happens to them until the pictures are taken."""
        at = self.devices
        at["mallory", "laptop"].vanish()
        for user, kind, availability in (
            ("dave", "laptop", "busy"),
            ("heidi", "laptop", "busy"),
            ("heidi", "phone", "busy"),
            ("erin", "phone", "away"),
        ):
            at[user, kind].say(type="state", id=9, availability=availability)
        at["alice", "phone"].say(type="bye")  # as long as it is there, a reload needs no window
        self.server.wait_log("ws_closed", user="alice", timeout=PATIENCE)
        for _ in range(2):
            at["alice", "laptop"].reload()
            at["bob", "laptop"].reload()
            time.sleep(PACE)
        at["ivan", "phone"].say(type="bye")
        self.server.wait_log("PRESENCE_OFFLINE", user="mallory", timeout=PATIENCE)
        at["mallory", "laptop"].come()
        status, answer = self.server.post("/v1/users/frank/disconnect", {"reason": "maintenance"})
        assert status == 200, answer
        self.server.wait_log("PRESENCE_OFFLINE", user="frank", timeout=PATIENCE)
        at["judy", "laptop"].leave()

    def end(self) -> None:
        """Everybody leaves."""
        for device in self.devices.values():
            device.leave()


def log_in(page: Page, server: ServerProcess) -> None:
    """With the API key, and wait until the page follows the server."""
    page.get_by_test_id("log-in-secret").fill(server.api_key)
    page.get_by_test_id("log-in-submit").click()
    expect(page.get_by_test_id("feed")).to_have_attribute("data-state", "live")


def overview(page: Page, crowd: Crowd) -> None:
    expect(page.get_by_test_id("tile-connections")).to_have_text("10")
    expect(page.get_by_test_id("count-busy")).to_have_text("2")
    expect(page.get_by_text("going away").first).to_be_visible()


def users(page: Page, crowd: Crowd) -> None:
    """Logged in anew: how many devices somebody has is read with the list, and the stream does not tell of it."""
    page.reload()
    log_in(page, crowd.server)
    expect(page.get_by_test_id("user-frank")).to_have_attribute("data-status", "offline")
    expect(page.get_by_test_id("user-carol")).to_contain_text("3 devices")


def rooms(page: Page, crowd: Crowd) -> None:
    for room in ROOMS:
        expect(page.locator("main").get_by_text(room, exact=True).first).to_be_visible()


def nodes(page: Page, crowd: Crowd) -> None:
    expect(page.get_by_test_id("node-n1")).to_contain_text("ready")


def policy(page: Page, crowd: Crowd) -> None:
    expect(page.get_by_test_id("whatif-going_away").locator("canvas")).to_be_visible()


def events(page: Page, crowd: Crowd) -> None:
    expect(page.get_by_test_id("events").locator("li").first).to_be_visible()


def settings(page: Page, crowd: Crowd) -> None:
    page.get_by_test_id("settings-search").fill("grace")
    expect(page.get_by_test_id("setting-grace.going_away")).to_have_attribute("data-changed", "true")


def user(page: Page, crowd: Crowd) -> None:
    """Alice has reloaded twice; now she leaves, and is shown online while her window runs."""
    cancelled = page.locator('[data-testid="window"][data-outcome="cancelled"]')
    expect(cancelled).not_to_have_count(0)
    crowd.devices["alice", "laptop"].leave()
    page.locator('[data-testid="window"][data-outcome="running"]').wait_for(state="attached")
    expect(page.get_by_test_id("why")).to_contain_text("window")


PAGES: dict[str, tuple[str, Callable[[Page, Crowd], None]]] = {
    "overview": ("overview", overview),
    "rooms": ("rooms", rooms),
    "nodes": ("nodes", nodes),
    "policy": ("policy", policy),
    "events": ("events", events),
    "settings": ("settings", settings),
    "users": ("users", users),
    "user": ("users/alice", user),
}
"""By name: where a page is, and what waits until it shows what it is about.

The order matters: events are those since the log-in, so what logs in anew comes later; that Alice leaves comes last.
"""


def take(names: Sequence[str], out: Path) -> list[Path]:
    """Run a server and its crowd, and take pictures.

    Args:
        names: of :data:`PAGES`.
        out: the folder to write to; it is made if it is missing.

    Returns:
        The files that were written, in the order of :data:`PAGES`.

    Raises:
        ValueError: a picture is larger than :data:`LARGEST`.
    """
    out.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE * 1000)
    written = []
    with ServerProcess(SETTINGS) as server, sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(
            viewport=SIZE, color_scheme="light", reduced_motion="reduce", locale="en-GB", timezone_id="UTC"
        )
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(f"{server.url}/admin")
        log_in(page, server)
        crowd = Crowd(server)
        try:
            crowd.arrive()
            crowd.live()
            for name in (name for name in PAGES if name in names):
                place, ready = PAGES[name]
                page.goto(f"{server.url}/admin#/{place}")
                ready(page, crowd)
                page.mouse.move(0, 0)  # nothing looks pointed at
                picture = page.screenshot(animations="disabled")
                if len(picture) > LARGEST:
                    raise ValueError(f"the picture of {name} has {len(picture)} bytes; {LARGEST} are allowed")
                written.append(out / f"admin-{name}.png")
                written[-1].write_bytes(picture)
        finally:
            crowd.end()
            browser.close()
    return written


def main() -> None:
    """Take the pictures that are asked for."""
    parser = argparse.ArgumentParser(description="Take pictures of the admin pages, with a small crowd on the server.")
    parser.add_argument("--only", action="append", choices=PAGES, metavar="NAME", help=f"one of {', '.join(PAGES)}")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where to write them [docs/images]")
    options = parser.parse_args()
    for path in take(options.only or list(PAGES), options.out):
        print(path)


if __name__ == "__main__":
    main()
