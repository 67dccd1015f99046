"""Two hundred real tabs, each with a client of its own, whose node drains: all come to the other one, unseen.

Only one tab of a browser is in front. The others are hidden, and Chromium rounds their timers up to whole seconds, the
same ones for all. So what is measured here is not what the same clients do without a browser (``test_sdk_drain``).
"""

from __future__ import annotations

import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.acceptance.faults.redis_process import RedisProcess, free_port
from tests.acceptance.raw import Raw
from tests.acceptance.sdk_page import DIST, NOT_BUILT, Site
from tests.acceptance.server import ServerProcess
from tests.acceptance.switch import Switch
from tests.acceptance.tabs import Chromium, DevTools
from tests.acceptance.watching import Watcher, faults, wait_until

PAGES = 200
DRAIN = 8.0
"""How long the node takes to send them away, in seconds; the window of a drain is 45 s."""
OPENING, RETURN = 90.0, 40.0
"""How long opening the tabs, and coming back after the drain, may take on a busy machine, in seconds."""
RENDERERS = 4
"""How many processes the tabs may share."""
EARLY = 50
"""By how much an attempt may seem to be early, in milliseconds: timers are rounded."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not (DIST / "index.js").is_file(), reason=NOT_BUILT),
]


class Moved(NamedTuple):
    """What one page noted while its node drained; times in milliseconds since the Unix epoch."""

    told_at: int
    """When the node announced the move."""
    wait: int
    """How long it asked the page to wait, in milliseconds."""
    attempts: list[int]
    """When the page opened another connection."""
    codes: list[int]
    """With which codes connections were closed."""
    statuses: list[str]
    """What became of the connection, in order."""
    hidden: bool

    @classmethod
    def of(cls, noted: dict[str, Any], since: float) -> Moved:
        """Read a page's notes from an instant on, in Unix seconds; it was told once."""
        notes = [note for note in noted["notes"] if note["at"] >= since * 1000]
        ((told_at, wait),) = [(note["at"], note["moving"]) for note in notes if "moving" in note]
        return cls(
            told_at=told_at,
            wait=wait,
            attempts=[note["at"] for note in notes if "attempt" in note],
            codes=[note["close"] for note in notes if "close" in note],
            statuses=[note["status"] for note in notes if "status" in note],
            hidden=noted["hidden"],
        )

    @property
    def late(self) -> int:
        """How long after its time the page came back, in milliseconds."""
        return self.attempts[0] - self.told_at - self.wait


class Stage:
    """Two nodes on one store, a switch before them, and a browser full of tabs; a context manager."""

    def __enter__(self) -> Stage:
        with ExitStack() as stack:
            self.site = Site()
            stack.callback(self.site.close)
            self._store = stack.enter_context(RedisProcess())
            self.old = stack.enter_context(self._node("n1"))
            self.new = stack.enter_context(self._node("n2", self.old.secret))
            self.site.token = self.old.token
            self.switch = stack.enter_context(Switch(self.old.port))
            self._browser = stack.enter_context(Chromium(f"--renderer-process-limit={RENDERERS}"))
            self._tools = stack.enter_context(DevTools(self._browser.address))
            self._tabs: list[str] = []
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _node(self, name: str, secret: str | None = None) -> ServerProcess:
        settings: dict[str, object] = {
            "server.node": name,
            "server.port": free_port(),  # a node tells the others its address before anybody asks it for its port
            "server.drain_s": DRAIN,
            "store.url": self._store.url,
            "origins.allowed": [self.site.origin],
            "limits.connections_per_ip": 3 * PAGES,
        }
        return ServerProcess({**settings, "auth.secret": secret} if secret else settings)

    def open(self, users: list[str]) -> None:
        """One tab per user, and wait until the node has them all."""
        for user in users:
            address = f"{self.site.origin}/observed?user={quote(user)}&server={quote(self.switch.url)}"
            self._tabs.append(self._tools.open(address))
        wait_until(lambda: arrived(self.old) == set(users), OPENING, "everybody is at the first node")
        self.wait("client.status === 'online'", OPENING)

    def read(self, expression: str) -> list[Any]:
        """The value of an expression in each tab."""
        return [self._tools.evaluate(tab, expression) for tab in self._tabs]

    def wait(self, condition: str, seconds: float) -> None:
        """Wait until an expression is true in every tab."""

        def everywhere() -> bool:
            time.sleep(0.3)  # the tabs need the processor more than the question
            return all(self.read(condition))

        wait_until(everywhere, seconds, f"{condition} in all {len(self._tabs)} tabs")


def arrived(node: ServerProcess) -> set[str]:
    """The users of the tabs that a node has ever welcomed."""
    return {line["user"] for line in node.log("connection_established") if line["user"].startswith("page-")}


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as made:
        yield made


@pytest.fixture
def watching(stage: Stage) -> Iterator[Callable[[list[str]], Watcher]]:
    """Watch users at the node that stays."""
    with ExitStack() as stack:
        token = stage.old.token("watcher")  # the nodes have one secret
        yield lambda users: stack.enter_context(Watcher(lambda: Raw.open(stage.new.ws_url, token), users))


def busiest_second(times: list[int]) -> int:
    """The most of these instants, in milliseconds, that any second has."""
    return max(sum(at <= other < at + 1000 for other in times) for at in times)


def test_two_hundred_hidden_pages_leave_a_draining_node_spread_out_and_nobody_sees_them_go(
    stage: Stage, watching: Callable[[list[str]], Watcher]
) -> None:
    users = [f"page-{n}" for n in range(PAGES)]
    stage.open(users)
    watcher = watching(users)
    assert {user for user in users if not watcher.history(user)} == set()

    began = time.time()
    stage.switch.port = stage.new.port
    stage.old.signal(signal.SIGTERM)
    assert stage.old.wait(DRAIN + 30) == 0
    wait_until(lambda: arrived(stage.new) == set(users), RETURN, "everybody is at the second node")
    stage.wait("client.status === 'online'", RETURN)
    watcher.settle()
    pages = [Moved.of(noted, began) for noted in stage.read("({ notes, hidden: document.hidden })")]

    # nobody was seen to go: a tab that was hidden for a minute may have become away
    histories = {user: watcher.history(user) for user in users}
    assert {shown.status for history in histories.values() for shown in history} <= {"online", "away"}
    assert [fault for history in histories.values() for fault in faults(history)] == []
    for node in (stage.old, stage.new):
        assert node.log("PRESENCE_OFFLINE") == []

    # all of them were moved by the node, came back at its time, and no page tried again and again
    assert all(page.hidden for page in pages)
    assert {page.statuses[-1] for page in pages} == {"online"}
    assert {status for page in pages for status in page.statuses} == {"reconnecting", "online"}
    assert stage.old.log("node_drained")[-1]["connections"] == PAGES
    assert Counter(code for page in pages for code in page.codes).most_common(1)[0][0] == 1012
    assert min(page.late for page in pages) >= -EARLY
    assert sum(len(page.attempts) for page in pages) <= 1.1 * PAGES

    # and they are spread over the drain, though their timers are aligned
    times = sorted(page.attempts[0] for page in pages)
    measured = {
        "spread_ms": times[-1] - times[0],
        "busiest_second": busiest_second(times),
        "median_late_ms": sorted(page.late for page in pages)[PAGES // 2],
        "attempts": sum(len(page.attempts) for page in pages),
    }
    logging.getLogger(__name__).info("%d pages, a drain of %g s: %s", PAGES, DRAIN, measured)
    assert measured["spread_ms"] >= 0.5 * DRAIN * 1000, measured
    assert measured["busiest_second"] < PAGES / 2, measured
