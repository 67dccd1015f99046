"""A world in which an application's presence can be tried: real rules, clients in memory, time moved by hand."""

from __future__ import annotations

import asyncio
import inspect
import json
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from stillhere.embed import Presence
from stillhere.server.auth import mint
from stillhere.server.socket import Endpoint, Refusal, UpgradeRequest
from stillhere.testing.client import Client
from stillhere.testing.clock import ManualClock

HOST = "app.test"


class Refused(AssertionError):
    """An upgrade was refused.

    Attributes:
        status: of the HTTP answer.
        detail: what it said.
    """

    def __init__(self, refusal: Refusal) -> None:
        self.status = refusal.status
        self.detail = str(json.loads(refusal.body).get("detail", ""))
        super().__init__(f"{self.status}: {self.detail}")


class World:
    """See the module; :func:`presence_world` makes one."""

    def __init__(self, presence: Presence, clock: ManualClock, secret: str) -> None:
        """Take a presence that was made with this clock and, for :meth:`connect`, with this secret."""
        self.presence = presence
        self.clock = clock
        self.clients: list[Client] = []
        self._secret = secret
        self._tasks: set[asyncio.Task[None]] = set()

    async def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            Exception: what went wrong in the background meanwhile, such as a reload that was refused.
        """
        await self.clock.advance(seconds)
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        await self.clock.settle()

    async def connect(
        self,
        user: str | None,
        *,
        watches: Iterable[str] = (),
        rooms: Iterable[str] = (),
        tab: str | None = None,
        info: Mapping[str, Any] | None = None,
        may_watch: str | Iterable[str] | None = "*",
        may_join: str | Iterable[str] | None = "*",
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        scope: Mapping[str, Any] | None = None,
    ) -> Client:
        """Open a tab.

        Args:
            user: who logs in, by a token that is made here; None: without a token, so that ``authenticate`` judges the
                headers, cookies, query and scope.
            watches: whom it watches from the beginning.
            rooms: where it is from the beginning.
            tab: its id; a new one if None.
            info: what watchers are shown, in the token.
            may_watch: whom the token allows to watch.
            may_join: which rooms the token allows.
            headers: of the upgrade, beside the usual ones.
            cookies: of the upgrade.
            query: of the upgrade.
            scope: what a middleware would have put into the ASGI scope.

        Raises:
            Refused: with the status and the sentence of the answer.
        """
        jar = {"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else {}
        claims = {"info": info, "watch": may_watch, "rooms": may_join}
        upgrade = {
            "user": user,
            "claims": claims,
            "headers": {"host": HOST, "origin": f"http://{HOST}", **jar, **(headers or {})},
            "query": dict(query or {}),
            "scope": dict(scope or {}),
        }
        client = Client(self, user or "(by authenticate)", tab=tab or secrets.token_urlsafe(6), upgrade=upgrade)
        await client.reconnect()
        self.clients.append(client)
        if watched := list(watches):
            await client.watch(*watched)
        for room in rooms:
            await client.join(room)
        return client

    async def upgrade(self, tab: str, upgrade: Mapping[str, Any]) -> Endpoint:
        """Ask for a connection.

        Args:
            tab: the id of the tab.
            upgrade: as :meth:`connect` puts it together.

        Raises:
            Refused: it is refused.
        """
        headers = dict(upgrade["headers"])
        if upgrade["user"] is not None:
            token = mint(self._secret, upgrade["user"], now=self.clock.now(), ttl=86_400, **upgrade["claims"])
            headers["sec-websocket-protocol"] = f"stillhere.v1, bearer.{token}"
        query = {"tab": tab, **upgrade["query"]}
        request = UpgradeRequest("/ws", query, headers, "127.0.0.1", upgrade["scope"])
        verdict = self.presence.node.greet(request)
        if inspect.isawaitable(verdict):
            verdict = await verdict
        if isinstance(verdict, Refusal):
            raise Refused(verdict)
        return verdict.endpoint

    async def status(self, user: str) -> str:
        """What watchers are shown of a user."""
        return (await self.presence.status(user)).value

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the test; what it raises is raised by :meth:`advance`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        return task

    async def end(self) -> None:
        """Nobody comes back any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def presence_world(
    make: Callable[..., Presence] = Presence, *, settings: Mapping[str, object] | None = None, **options: Any
) -> AsyncIterator[World]:
    """A world of one presence, on the running event loop.

    Args:
        make: what makes the presence; your application's own function, if it passes ``store``, ``secret``, ``settings``
            and ``clock`` on to :class:`stillhere.embed.Presence`.
        settings: by ``section.key``, as for :class:`stillhere.embed.Presence`.
        options: further options of ``make``, such as ``authenticate`` and ``may_watch``.

    Yields:
        The world; its presence has been started.
    """
    clock = ManualClock()
    secret = secrets.token_urlsafe(32)
    with clock.holding():
        chosen = {"auth.leeway_ms": 0, "server.node": "test", **(settings or {})}
        presence = make(**{"store": "memory:", "secret": secret, "settings": chosen, "clock": clock, **options})
        world = World(presence, clock, str(options.get("secret", secret)))
        await presence.start()
        try:
            yield world
        finally:
            await world.end()
            clock.run_freely()
            await presence.stop()
