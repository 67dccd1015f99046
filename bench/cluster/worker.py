"""A node of the bench in a process of its own: the production node and store, without sockets.

Orders come as JSON lines on the standard input, each is answered by one JSON line. Connections are opened in the
node's roster, as the transport would, and the keeper does the rest.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import redis.asyncio as redis
import uvloop

from stillhere.core.connection import Connection
from stillhere.core.record import ConnectionSummary, Contribution, Ending
from stillhere.core.words import Cause, ConnectionId, ReadyState, SessionId, TabId, UserId
from stillhere.server.assembly import make_node
from stillhere.server.node import Node
from stillhere.server.settings import load_settings
from stillhere.store.contract import Cursor

Answer = dict[str, Any]
_PAGE = 1000


def summary(user: str) -> ConnectionSummary:
    """One connection, with ids as long as real ones."""
    return ConnectionSummary(
        ConnectionId(f"c_{user:0>16}"),
        SessionId(f"s_{user:0>12}"),
        TabId(f"{user:0>22}"),
        ReadyState.OPEN,
        time.time(),
        client="Chrome 156",
    )


def names(prefix: str, count: int) -> list[str]:
    """User ids."""
    return [f"{prefix}{number:08d}" for number in range(count)]


class Worker:
    """Carries out orders; one method for each."""

    def __init__(self, url: str, name: str) -> None:
        """Prepare a node; ``start`` opens it."""
        self._url = url
        flags: dict[str, object] = {
            "server.node": name,
            "store.url": url,
            "auth.secret": "a secret of the bench, which nobody logs in with",
        }
        self.node: Node = make_node(load_settings(None, {}, flags))
        self._connections: dict[str, Connection] = {}
        self._revision = 0
        self._arrivals: dict[str, float] = {}
        self._cursor = Cursor(0, 0)

    async def start(self) -> Answer:
        """Open the store; the node beats, sweeps and follows the log from now on.

        It waits until the store judges: while nodes may still tell of others, nobody goes.
        """
        await self.node.start()
        while self.node.store.recovering(UserId("anybody")):  # noqa: ASYNC110 - a store tells of no such event
            await asyncio.sleep(0.1)
        return {}

    async def stop(self) -> Answer:
        """Give the lease back."""
        await self.node.stop()
        return {}

    # -- the store alone ------------------------------------------------------------------------------------------

    async def puts(self, prefix: str, users: int, batch: int) -> Answer:
        """Every user comes online and leaves with a bye: two transitions each, ``batch`` users a request."""
        begin = time.perf_counter()
        transitions = 0
        for leaving in (False, True):
            self._revision += 1
            everybody = names(prefix, users)
            for at in range(0, users, batch):
                told = [self._contribution(user, leaving) for user in everybody[at : at + batch]]
                outcome = await self.node.store.put(told)
                transitions += sum(type(event).__name__ == "Transition" for event in outcome.events)
        return {"transitions": transitions, "seconds": time.perf_counter() - begin}

    def _contribution(self, user: str, leaving: bool) -> Contribution:
        c = summary(user)
        if not leaving:
            return Contribution(UserId(user), self._revision, (c,))
        ending = Ending(c.id, c.session, c.tab, Cause.BYE, 0.0, 0.0, 1000, c)
        return Contribution(UserId(user), self._revision, (), (ending,))

    async def increments(self, events: int, batch: int) -> Answer:
        """The bare loop: an ``INCR`` per event on a key of the user, ``batch`` events a round trip."""
        client: Any = redis.from_url(self._url)
        keys = [f"online:{user}" for user in names("i", events)]
        begin = time.perf_counter()
        for at in range(0, events, batch):
            if batch == 1:
                await client.incr(keys[at])
            else:
                async with client.pipeline(transaction=False) as pipe:
                    for key in keys[at : at + batch]:
                        pipe.incr(key)
                    await pipe.execute()
        seconds = time.perf_counter() - begin
        await client.aclose()
        return {"seconds": seconds}

    # -- the whole node -------------------------------------------------------------------------------------------

    def _open(self, user: str) -> None:
        c = summary(user)
        connection = Connection(c.id, UserId(user), c.session, c.tab, c.opened_at, client=c.client)
        now = self.node.monotonic()
        self.node.roster.begin(connection, now)
        self.node.roster.open(connection, now)
        self._connections[user] = connection

    def _leave(self, user: str) -> None:
        self.node.roster.depart(self._connections.pop(user), Cause.BYE, self.node.monotonic())

    async def crowd(self, prefix: str, users: int) -> Answer:
        """So many users connect, as fast as the store takes them."""
        begin = time.perf_counter()
        for user in names(prefix, users):
            self._open(user)
        self.node.keeper.changed()
        await self.node.keeper.settle(120.0)
        return {"seconds": time.perf_counter() - begin, "changed": self.node.roster.changed}

    async def turn(self, prefix: str, users: int) -> Answer:
        """So many users connect in one turn of the loop: requests until all are acknowledged."""
        await self.node.keeper.settle(10.0)
        before = self.node.store.statistics().writes
        for user in names(prefix, users):
            self._open(user)
        self.node.keeper.changed()
        await self.node.keeper.settle(30.0)
        requests = self.node.store.statistics().writes - before
        for user in names(prefix, users):
            self._leave(user)
        self.node.keeper.changed()
        await self.node.keeper.settle(30.0)
        return {"requests": requests}

    async def flips(self, prefix: str, rate: int, seconds: float) -> Answer:
        """Users come, and each goes a quarter of a second later, at a steady rate of changes.

        Says when each change was made, on the monotonic clock of the machine. Who came and went before a put would
        make no transition; so nobody leaves at once.
        """
        made: dict[str, float] = {}
        stay = max(1, rate // 8)
        begin, come = time.monotonic(), 0

        def leave(number: int) -> None:
            user = f"{prefix}{number:08d}"
            made[f"{user}-"] = time.monotonic()
            self._leave(user)

        while (elapsed := time.monotonic() - begin) < seconds:
            while come < elapsed * rate / 2:
                user = f"{prefix}{come:08d}"
                made[f"{user}+"] = time.monotonic()
                self._open(user)
                if come >= stay:
                    leave(come - stay)
                come += 1
            self.node.keeper.changed()
            await asyncio.sleep(0.001)
        await self.node.keeper.settle(10.0)
        for number in range(max(0, come - stay), come):
            leave(number)
        self.node.keeper.changed()
        await self.node.keeper.settle(10.0)
        return {"made": made}

    async def follow(self) -> Answer:
        """Note from now on when each transition arrives from the log."""
        self._arrivals.clear()
        self._cursor = await self.node.store.tip()
        self.node.store.on_news(self._news)
        return {}

    def _news(self) -> None:
        asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        page = await self.node.store.read_log(self._cursor, _PAGE)
        now = time.monotonic()
        if page.cursor <= self._cursor:
            return
        self._cursor = page.cursor
        for entry in page.entries:
            sign = "-" if entry.change.value == "PRESENCE_OFFLINE" else "+"
            self._arrivals.setdefault(f"{entry.user}{sign}", now)
        if len(page.entries) == _PAGE:
            self._news()

    async def arrivals(self) -> Answer:
        """What :meth:`follow` noted."""
        return {"arrived": self._arrivals}


async def main(url: str, name: str) -> None:
    """Read orders until there are no more."""
    worker = Worker(url, name)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        what: Callable[..., Coroutine[Any, Any, Answer]] = getattr(worker, order.pop("order"))
        try:
            answer = await what(**order)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
