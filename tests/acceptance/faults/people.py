"""Two hundred people who want to be there, and a watcher on each node who records what it is shown of them.

People behave as the client library does: one tab id for life, reconnecting by themselves to a node that takes them,
with back-off and full jitter, heeding close codes and ``moving``. Each of them can be told to go for good.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from tests.acceptance.faults.background import Background
from tests.acceptance.faults.cluster import ABNORMAL, CLIENT_CLOSE, NODES, Cluster
from tests.acceptance.raw import Message
from tests.acceptance.watching import wait_until

PEOPLE = 200

Ending = Literal["bye", "close", "abort"]
WINDOW: dict[Ending, float] = {"bye": 0.0, "close": CLIENT_CLOSE, "abort": ABNORMAL}

OPEN_TIMEOUT = 3.0
"""A node that stands still accepts connections, in its kernel, and says nothing."""
SOON = 0.5
"""Seconds over which people spread who come back soon."""
BACK_OFF = 2.0
"""The longest wait between two tries."""

Url = Callable[[str], str]
Token = Callable[[str], str]


class Span(NamedTuple):
    """A stretch of time, Unix seconds, between a welcome and the end of that connection."""

    start: float
    end: float
    node: str
    code: int


async def enter(url: str, token: str, tab: str) -> ClientConnection:
    """Connect and wait for the welcome.

    Raises:
        OSError, WebSocketException, TimeoutError: nobody let us in.
    """
    async with asyncio.timeout(OPEN_TIMEOUT):
        client = await connect(
            f"{url}?tab={tab}",
            subprotocols=[Subprotocol("stillhere.v1"), Subprotocol(f"bearer.{token}")],
            ping_interval=None,
            compression=None,
            max_queue=None,
            proxy=None,
            open_timeout=None,
            close_timeout=1,
        )
        try:
            while json.loads(await client.recv())["type"] != "welcome":
                pass
        except BaseException:
            client.transport.abort()
            raise
    return client


class Person:
    """Somebody with one tab."""

    def __init__(self, name: str, home: str, url: Url, token: str) -> None:
        """Stay away until :meth:`live`.

        Args:
            name: the user id, and the tab's.
            home: the node to come to first.
            url: where to reach a node.
            token: of one session.
        """
        self.name = name
        self.home = home
        self.spans: list[Span] = []
        self.surprises: list[str] = []
        """Ends after which a client must not come back."""
        self.node: str | None = None
        """Where the connection stands, if it does."""
        self.welcomed_at = 0.0
        self.loyal = True
        """Whether to come back after a loss."""
        self.staying = False
        self._url = url
        self._token = token
        self._random = random.Random(name)
        self._client: ClientConnection | None = None
        self._homewards = False
        self._moving_at = 0.0

    async def live(self) -> None:
        """Be there, as far as the nodes allow, until told to go."""
        self.staying = self.loyal = True
        wanted, tries = self.home, 0
        while self.staying:
            try:
                client = await enter(self._url(wanted), self._token, self.name)
            except (OSError, WebSocketException, TimeoutError):
                tries += 1
                wanted = self._another(wanted)
                await asyncio.sleep(self._random.uniform(0, min(BACK_OFF, 0.1 * 2**tries)))
                continue
            tries = 0
            code = await self._be_on(wanted, client)
            if self._is_over(code):
                break
            if self._homewards:
                self._homewards, wanted = False, self.home
            else:
                wanted = self._another(wanted)
                await self._wait(code)
        self.staying = False

    async def go(self, how: Ending) -> float:
        """End the connection, if there is one, and do not come back; returns when that was, Unix seconds."""
        self.staying = False
        client = self._client
        at = time.time()
        if client is not None:
            if how == "bye":
                await client.send('{"type":"bye"}')
                await client.wait_closed()
            elif how == "close":
                await client.close(1000)
            else:
                client.transport.abort()
        return at

    async def lose(self) -> None:
        """Have the connection break, as a network does it."""
        if self._client is not None:
            self._client.transport.abort()

    async def reload(self) -> None:
        """Reload, and come to the home node."""
        if self._client is not None:
            self._homewards = True
            await self._client.close(1001)

    async def _be_on(self, node: str, client: ClientConnection) -> int:
        if not self.staying:
            client.transport.abort()
            return 1006
        self._client, self.node, self.welcomed_at = client, node, time.time()
        self._moving_at = 0.0
        try:
            async for text in client:
                message = json.loads(text)
                if message["type"] == "moving":
                    self._moving_at = time.monotonic() + message["reconnectInMs"] / 1000
        except ConnectionClosed:
            pass
        self._client, self.node = None, None
        code = client.close_code or 1006
        self.spans.append(Span(self.welcomed_at, time.time(), node, code))
        return code

    def _is_over(self, code: int) -> bool:
        """Whether a connection that ended with this code was the last one."""
        final = 4000 <= code < 4100
        if self.staying and final:
            self.surprises.append(f"{self.name} was closed with {code}")
        return final or not self.staying or not self.loyal

    async def _wait(self, code: int) -> None:
        told = self._moving_at - time.monotonic()
        if self._moving_at:
            await asyncio.sleep(max(0.0, told))
        elif 4100 <= code < 4200:
            await asyncio.sleep(self._random.uniform(SOON, BACK_OFF))
        else:
            await asyncio.sleep(self._random.uniform(0, SOON))

    def _another(self, node: str) -> str:
        return self._random.choice([name for name in NODES if name != node])


@dataclass
class Entry:
    """What a watcher was told of one user."""

    at: float
    """Unix seconds."""
    connection: int
    """Which of the watcher's connections it came over."""
    kind: str
    """``snapshot`` or ``presence``."""
    told: Message

    @property
    def status(self) -> str:
        return str(self.told["status"])

    @property
    def version(self) -> int:
        return int(self.told["version"])

    @property
    def epoch(self) -> str:
        return str(self.told["epoch"])


@dataclass
class View:
    """What a watcher holds of a user, by the rules for clients, and all that it was told since the row began."""

    held: Entry | None = None
    entries: list[Entry] = field(default_factory=list)
    past_epochs: set[str] = field(default_factory=set)

    def take(self, entry: Entry) -> None:
        """Drop what is not newer; another epoch is always newer, unless it is one that is over."""
        self.entries.append(entry)
        held = self.held
        if held is not None and entry.epoch != held.epoch:
            if entry.epoch in self.past_epochs:
                return
            self.past_epochs.add(held.epoch)
        elif held is not None and entry.version < held.version:
            return
        self.held = entry


class Watcher:
    """Watches everybody from one node, and comes back to it whenever it lets it."""

    def __init__(self, node: str, users: Sequence[str], url: Url, token: str) -> None:
        """Watch nobody before :meth:`live`."""
        self.node = node
        self.users = list(users)
        self.views = {user: View() for user in users}
        self.connection = 0
        self.alive = False
        self.known = False
        """Whether the present connection has brought its first snapshot."""
        self._url = url
        self._token = token
        self._asked_at = 0.0

    async def live(self) -> None:
        """Watch, for ever."""
        while True:
            try:
                client = await enter(self._url(self.node), self._token, f"watcher-{self.node}")
            except (OSError, WebSocketException, TimeoutError):
                await asyncio.sleep(0.2)
                continue
            self.connection += 1
            self.alive, self.known = True, False
            try:
                await self._ask(client)
                async for text in client:
                    await self._take(client, json.loads(text))
            except ConnectionClosed:
                pass
            finally:
                self.alive = self.known = False
                client.transport.abort()

    def mark(self) -> None:
        """Forget what was told; what is held stays."""
        for view in self.views.values():
            view.entries.clear()

    async def _ask(self, client: ClientConnection) -> None:
        self._asked_at = time.monotonic()
        await client.send(json.dumps({"type": "watch", "id": "w", "users": self.users}))

    async def _take(self, client: ClientConnection, message: Message) -> None:
        kind = message["type"]
        if kind not in ("snapshot", "presence"):
            return
        now = time.time()
        foreign = False
        for told in message["users"] if kind == "snapshot" else message["changes"]:
            view = self.views[told["user"]]
            foreign = foreign or (view.held is not None and view.held.epoch != told["epoch"])
            view.take(Entry(now, self.connection, kind, told))
        self.known = self.known or kind == "snapshot"
        # the protocol: a client that sees another epoch asks for fresh snapshots of all that it watches
        if foreign and kind == "presence" and time.monotonic() - self._asked_at > 1:
            await self._ask(client)


class Departure(NamedTuple):
    """Somebody went for good."""

    user: str
    at: float
    """Unix seconds."""
    earliest: float
    """Seconds after which OFFLINE is right at the earliest, without any fault of a clock."""


class Crowd:
    """All of them, on a loop of their own; a context manager."""

    def __init__(self, cluster: Cluster, people: int = PEOPLE) -> None:
        """Prepare; entering the context brings everybody in.

        Args:
            cluster: where.
            people: how many.
        """
        self.cluster = cluster
        self.background = Background("people")
        names = [f"p{number:03}" for number in range(people)]
        self.people = {
            name: Person(name, NODES[number % len(NODES)], cluster.ws_url, cluster.token(name))
            for number, name in enumerate(names)
        }
        self.watchers = {node: Watcher(node, names, cluster.ws_url, cluster.token(f"watcher-{node}")) for node in NODES}
        self._living: dict[str, asyncio.Task[None]] = {}
        self._watching: list[asyncio.Task[None]] = []

    def __enter__(self) -> Crowd:
        try:
            self.background.call(self._begin())
            self.gather()
        except BaseException:
            self.background.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.background.close()

    @property
    def names(self) -> list[str]:
        """Everybody's user id."""
        return list(self.people)

    # -- what people do ---------------------------------------------------------------------------------------------

    def gather(self, timeout: float = 25.0) -> None:
        """Everybody comes (back) to the home node, every watcher sees them there, and the record of the row begins."""
        self.background.call(self._revive())
        self.wait_connected(timeout)
        self.background.call(self._homewards())
        wait_until(lambda: not self._astray(), timeout, f"everybody at home; astray: {self._astray()[:9]}")
        wait_until(lambda: not self.unseen(), timeout, f"everybody seen; unseen: {self.unseen()[:5]}")
        self.cluster.calm()
        self.background.call(self._mark())

    def wait_connected(self, timeout: float = 20.0) -> None:
        """Wait until everybody who wants to be there is."""
        wait_until(lambda: not self.missing(), timeout, f"everybody connected; missing: {self.missing()[:9]}")

    def missing(self) -> list[str]:
        """Who wants to be there and is not."""
        return [name for name, person in self.people.items() if person.staying and person.node is None]

    def on(self, node: str) -> list[str]:
        """Who is on a node."""
        return [name for name, person in self.people.items() if person.node == node]

    def leave(self, users: Sequence[str], how: Ending) -> list[Departure]:
        """Let people go for good, now."""

        async def go() -> list[float]:
            return list(await asyncio.gather(*(self.people[user].go(how) for user in users)))

        return [Departure(user, at, WINDOW[how]) for user, at in zip(users, self.background.call(go()), strict=True)]

    def lose(self, users: Sequence[str]) -> None:
        """Have people's connections break, all at once; they come back by themselves."""

        async def lose() -> None:
            await asyncio.gather(*(self.people[user].lose() for user in users))

        self.background.call(lose())

    def reload(self, users: Sequence[str]) -> None:
        """Have people reload their page, all at once; they come back to their home node, if it lets them."""

        async def reload() -> None:
            await asyncio.gather(*(self.people[user].reload() for user in users))

        self.background.call(reload())

    def ended(self, node: str) -> list[Span]:
        """The connections to a node that have ended since the row began."""
        return [span for person in self.people.values() for span in person.spans if span.node == node]

    def doom(self, users: Sequence[str]) -> None:
        """Have people not come back when their connection ends the next time."""
        for user in users:
            self.people[user].loyal = False

    def departed(self, users: Sequence[str], earliest: float, timeout: float = 10.0) -> list[Departure]:
        """When the doomed have lost their connections, or will have within so many seconds.

        Args:
            users: who was doomed.
            earliest: see :class:`Departure`.
            timeout: in seconds.
        """
        wait_until(lambda: all(self.people[user].node is None for user in users), timeout, f"{users} have gone")
        return [Departure(user, self.people[user].spans[-1].end, earliest) for user in users]

    def come_back(self, users: Sequence[str]) -> None:
        """Let people who went come again."""
        self.background.call(self._revive(users))

    def unseen(self) -> list[str]:
        """Where a watcher does not hold that somebody who is there is online."""
        found = [f"no watcher on {node}" for node, watcher in self.watchers.items() if not watcher.known]
        for node, watcher in self.watchers.items():
            for user, view in watcher.views.items():
                held = view.held
                if self.people[user].node is not None and (held is None or held.status != "online"):
                    found.append(f"{user} on {node}: {held}")
        return found

    # -- on the loop ------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        self._watching = [asyncio.create_task(watcher.live()) for watcher in self.watchers.values()]
        await self._revive()

    async def _revive(self, users: Sequence[str] | None = None) -> None:
        for name in users or self.people:
            person = self.people[name]
            person.loyal = True
            living = self._living.get(name)
            if living is not None and not person.staying:
                await living
            if living is None or living.done():
                self._living[name] = asyncio.create_task(person.live())
                person.staying = True

    async def _homewards(self) -> None:
        await asyncio.gather(*(p.reload() for p in self.people.values() if p.node != p.home))

    async def _mark(self) -> None:
        for watcher in self.watchers.values():
            watcher.mark()
        for person in self.people.values():
            person.spans.clear()
            person.surprises.clear()

    def _astray(self) -> list[str]:
        return [name for name, person in self.people.items() if person.node != person.home]
