"""Pages that are hidden for minutes, in a real Chromium that throttles their timers, with the real server.

All tests look at one stretch of time: four pages in tabs of one window, all behind a fifth for two minutes and more.
While they are hidden, one is left alone, the network of one dies in silence, and the server of one crashes; the network
of the last dies just before it is looked at again.

Chromium lets the timers of a hidden page run once a second, and after five minutes those that set each other once a
minute. Here these five minutes are ten seconds, so that nearly all of the stretch is of the second kind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, cast
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.acceptance.faults.background import Background
from tests.acceptance.faults.proxy import BLACK_HOLE, FaultProxy
from tests.acceptance.sdk_page import DIST, NOT_BUILT, Site
from tests.acceptance.server import ServerProcess
from tests.acceptance.tabs import Chromium
from tests.acceptance.watching import Watcher, faults, wait_until, watch

HIDDEN = 122.0
"""How long the pages are hidden at least, in seconds."""
THROTTLED = "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/10"
"""Once a minute begins after ten seconds; everything else is as Chromium has it."""
TICK = 200
"""How often a timer of the page would like to run, in milliseconds."""

HEARTBEAT, PROBE = 5.0, 8.0
"""Of the lively server, in seconds: of each there are many in two minutes."""
LIVELY: dict[str, object] = {
    "heartbeat.interval_ms": round(HEARTBEAT * 1000),
    "heartbeat.timeout_ms": round(HEARTBEAT * 1000) - 100,
    "heartbeat.probe_interval_ms": round(PROBE * 1000),
    # The server judges a silent path after two heartbeats, the page after two and a half and the time for an answer.
    "grace.heartbeat_lost": 30_000,
}

AWAY = 60.0
"""After how many seconds in the background the client says `away`, unless told otherwise."""
ANSWER = 3.0
"""How long the client waits for a sign of life that it asked for, in seconds."""
SILENCE = 1.6
"""After how many silent heartbeats it asks for one."""
LONGEST_RETRY = 10.0
"""The longest that it waits between two attempts, in seconds."""
ROUNDING = 2.0
"""By how much timers that run once a second may be late in all, in seconds."""
BUSY = 10.0
"""Patience with a machine of two cores that does other things as well, in seconds."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(420),
    pytest.mark.skipif(not (DIST / "index.js").is_file(), reason=NOT_BUILT),
]

TICKS = """
(every) => {
  window.ticks = [];
  setInterval(() => ticks.push(Date.now()), every);
}
"""


class Tab:
    """A page of a user; all times are Unix seconds."""

    def __init__(self, page: Page, site: Site, user: str, socket: str, *watched: str) -> None:
        """Open it in front of all others, and wait until it is online.

        Args:
            page: empty.
            site: the application.
            user: who is logged in.
            socket: the server's, or that of a proxy before it.
            watched: whom the page follows.
        """
        self.user = user
        self.page = page
        page.goto(
            f"{site.origin}/observed?user={quote(user)}&server={quote(socket)}"
            + "".join(f"&watch={quote(other)}" for other in watched)
        )
        self.until("client.status === 'online'", 30)
        page.evaluate(TICKS, TICK)

    def until(self, expression: str, seconds: float) -> None:
        """Wait until an expression is true. Playwright's way of waiting needs frames, and a hidden page draws none."""

        def true() -> bool:
            time.sleep(0.1)
            return bool(self.page.evaluate(expression))

        wait_until(true, seconds, f"{expression}; {self.user} noted {self.page.evaluate('notes')[-8:]}")

    def noted(self, kind: str, value: object = None) -> list[float]:
        """When the page noted something, or only where it was this."""
        notes = cast(list[dict[str, Any]], self.page.evaluate("notes"))
        return [note["at"] / 1000 for note in notes if kind in note and value in (None, note[kind])]

    def ticked(self) -> list[float]:
        """When the page's timer ran."""
        return [at / 1000 for at in cast(list[int], self.page.evaluate("ticks"))]

    def hidden_at(self) -> float:
        """When another tab came before it."""
        return self.noted("visibility", "hidden")[-1]

    def shown_at(self) -> float | None:
        """When it was looked at again, if it was."""
        back = [at for at in self.noted("visibility", "visible") if at > self.hidden_at()]
        return back[0] if back else None

    def look(self) -> float:
        """Bring it before all others; returns when it was visible."""
        self.page.bring_to_front()
        self.until("document.visibilityState === 'visible'", BUSY)
        return self.noted("visibility", "visible")[-1]


class Stretch:
    """The four pages and what is around them, from the moment they open to the end of the time that all are hidden."""

    def __init__(self, stack: ExitStack) -> None:
        """Open everything.

        Args:
            stack: closes it.
        """
        site = Site()
        stack.callback(site.close)
        settings: dict[str, object] = {"origins.allowed": [site.origin]}
        self.lively = stack.enter_context(ServerProcess({**settings, **LIVELY}))
        self.mortal = stack.enter_context(ServerProcess({**settings, **LIVELY, "store.url": "sqlite:///presence.db"}))
        self.usual = stack.enter_context(ServerProcess(settings))
        servers = {"ann": self.lively, "bea": self.lively, "cem": self.mortal, "dot": self.usual}
        site.token = lambda user: servers[user].token(user)

        background = Background("network")
        stack.callback(background.close)
        self.roads = {name: FaultProxy(background, "127.0.0.1", servers[name].port) for name in ("bea", "dot")}
        for road in self.roads.values():
            stack.callback(road.close)

        browser = stack.enter_context(Chromium(THROTTLED))
        playwright = stack.enter_context(sync_playwright())
        # without the defaults, which let every page believe that it is looked at
        context = playwright.chromium.connect_over_cdp(browser.address, no_defaults=True).contexts[0]

        def tab(user: str, *watched: str) -> Tab:
            road = self.roads.get(user)
            socket = servers[user].ws_url if road is None else f"ws://127.0.0.1:{road.port}/ws"
            return Tab(context.new_page(), site, user, socket, *watched)

        self.ann, self.bea, self.cem, self.dot = tab("ann", "eva"), tab("bea"), tab("cem"), tab("dot")
        self.tabs = (self.ann, self.bea, self.cem, self.dot)
        self.watchers = {
            name: stack.enter_context(watch(server, name, name=f"{name}'s watcher")) for name, server in servers.items()
        }
        self.ann.until("!client.get('eva').stale", 15)
        context.new_page().bring_to_front()
        for each in self.tabs:
            each.until("document.visibilityState === 'hidden'", BUSY)
        self._pass()

    def _pass(self) -> None:
        """What happens while they are hidden."""
        for tab in self.tabs:
            self.watchers[tab.user].wait_for(tab.user, "away", AWAY + 2 * PROBE + BUSY)
        self.cut_at = time.time()
        self.roads["bea"].fault(BLACK_HOLE, BLACK_HOLE, new=False)
        self.mortal.kill()
        self.mortal.start()
        self.restarted_at = time.time()
        self.watchers["cem"].reconnect()
        with watch(self.lively, name="eva") as eva:
            self.ann.until("client.get('eva').status === 'online'", BUSY)
            eva.leave(1000)
        self.ann.until("client.get('eva').status === 'offline'", 2 * BUSY)
        for tab in (self.bea, self.cem):
            tab.until(f"notes.some(({{ status, at }}) => status === 'online' && at > {1000 * self.cut_at})", 60)
        since = max(tab.hidden_at() for tab in self.tabs)
        time.sleep(max(0.0, since + HIDDEN - time.time()))
        self.ann.until(f"Math.max(...ticks.slice(1).map((at, n) => at - ticks[n])) > {0.95 * 60_000}", 75)
        self.ended_at = time.time()

    def back_at(self, tab: Tab) -> float:
        """When a page whose connection was lost was welcomed again."""
        return next(at for at in tab.noted("status", "online") if at > self.cut_at)


@pytest.fixture(scope="module")
def stretch() -> Iterator[Stretch]:
    with ExitStack() as stack:
        yield Stretch(stack)


def shown_truly(watcher: Watcher, user: str, server: ServerProcess) -> list[str]:
    """What a watcher was shown of a user, each status once; nothing of it was false, and nobody was said to be gone."""
    history = watcher.history(user)
    assert faults(history) == []
    assert server.log("PRESENCE_OFFLINE", user=user) == []
    statuses = [shown.status for shown in history]
    return [status for n, status in enumerate(statuses) if n == 0 or statuses[n - 1] != status]


@pytest.mark.parametrize("name", ["ann", "bea", "cem", "dot"])
def test_the_timers_of_hidden_pages_run_once_a_second_and_then_once_a_minute(stretch: Stretch, name: str) -> None:
    tab = {tab.user: tab for tab in stretch.tabs}[name]
    hidden_at = tab.hidden_at()
    ticks = [at for at in tab.ticked() if hidden_at < at < stretch.ended_at]
    gaps = [after - before for before, after in pairwise(ticks)]

    assert stretch.ended_at - hidden_at >= 120
    assert [at for at in tab.noted("visibility", "visible") if hidden_at < at < stretch.ended_at] == []
    # of 600 times at which the timer would have run
    assert len(ticks) <= 60
    assert sorted(gaps)[len(gaps) // 2] >= 0.9
    assert max(gaps) >= 55


def test_a_page_that_is_hidden_for_two_minutes_stays_connected_and_is_shown_away(stretch: Stretch) -> None:
    ann, watcher = stretch.ann, stretch.watchers["ann"]
    hidden_at = ann.hidden_at()

    assert shown_truly(watcher, "ann", stretch.lively)[:2] == ["online", "away"]
    away_at = next(shown.at for shown in watcher.history("ann") if shown.status == "away")
    assert AWAY - 1 <= away_at - hidden_at <= AWAY + PROBE + ROUNDING + BUSY

    # one connection, alive all the time: it answered the server, and heard what there was to hear
    assert len(ann.noted("attempt")) == 1
    assert ann.noted("close") == []
    assert stretch.lively.log("grace_started", user="ann") == []
    answered = [at for at in ann.noted("probe") if hidden_at < at < stretch.ended_at]
    assert len(answered) >= 0.6 * (stretch.ended_at - hidden_at) / PROBE
    assert ann.page.evaluate("seen") == [["eva", "offline"], ["eva", "online"], ["eva", "offline"]]


def test_it_is_online_and_current_as_soon_as_it_is_looked_at(stretch: Stretch) -> None:
    ann, watcher = stretch.ann, stretch.watchers["ann"]

    shown_at = ann.look()
    assert watcher.wait_for("ann", "online").at - shown_at <= BUSY

    assert shown_truly(watcher, "ann", stretch.lively) == ["online", "away", "online"]
    assert ann.page.evaluate("client.status") == "online"
    assert ann.page.evaluate("client.get('eva').stale") is False
    assert len(ann.noted("attempt")) == 1


def test_a_path_that_dies_in_silence_is_replaced_while_the_page_is_hidden(stretch: Stretch) -> None:
    bea, watcher = stretch.bea, stretch.watchers["bea"]
    back_at = stretch.back_at(bea)

    assert back_at < stretch.ended_at and bea.shown_at() is None
    assert back_at - stretch.cut_at <= SILENCE * HEARTBEAT + ANSWER + ROUNDING + BUSY
    assert len(bea.noted("attempt")) >= 2

    bea.look()
    watcher.wait_for("bea", "online")
    assert shown_truly(watcher, "bea", stretch.lively) == ["online", "away", "online"]


def test_a_crash_of_the_server_is_got_over_while_the_page_is_hidden(stretch: Stretch) -> None:
    cem, watcher = stretch.cem, stretch.watchers["cem"]
    back_at = stretch.back_at(cem)

    assert back_at < stretch.ended_at and cem.shown_at() is None
    assert back_at - stretch.restarted_at <= LONGEST_RETRY + ROUNDING + BUSY

    cem.look()
    watcher.wait_for("cem", "online")
    assert shown_truly(watcher, "cem", stretch.mortal) == ["online", "away", "online"]


def test_a_path_that_died_in_the_background_is_found_out_when_the_page_is_looked_at(stretch: Stretch) -> None:
    """By silence alone the page would notice after two and a half heartbeats of 20 s."""
    dot, watcher = stretch.dot, stretch.watchers["dot"]
    assert len(dot.noted("attempt")) == 1

    stretch.roads["dot"].fault(BLACK_HOLE, BLACK_HOLE, new=False)
    looked_at = dot.look()
    dot.until("notes.filter((note) => note.status === 'reconnecting').length > 0", 60)
    dot.until("client.status === 'online'", 60)

    assert dot.noted("status", "reconnecting")[0] - looked_at <= ANSWER + BUSY
    assert dot.noted("status", "online")[-1] - looked_at <= ANSWER + 2 * BUSY
    watcher.wait_for("dot", "online")
    assert shown_truly(watcher, "dot", stretch.usual) == ["online", "away", "online"]
