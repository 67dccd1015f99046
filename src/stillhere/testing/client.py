"""A client in memory: a browser tab, as its user and its server see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from stillhere.server.socket import Endpoint
from stillhere.wire.codes import Advice, advice

if TYPE_CHECKING:
    from stillhere.testing.world import World

GOING_AWAY = 1001
PAGE_HIDDEN = 4900


class Sight(NamedTuple):
    """A change as the user of a client sees it."""

    user: str
    status: str


class Link:
    """One WebSocket of a client, without a network: the server's end of it."""

    def __init__(self, client: Client, endpoint: Endpoint) -> None:
        """Connect an endpoint to a client."""
        self._client = client
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self.over = False
        """Whether a close frame was sent, or TCP has ended."""
        self._lost = False
        self.closed: tuple[int, str] | None = None
        """Code and reason of the server's close frame."""
        self.alive = True
        """Whether there is a device at this end."""

    # -- what the server does; see stillhere.server.socket.Socket ---------------------------------------------------

    def send(self, frame: bytes) -> None:
        if not self.over and self.alive:
            self._client.received(json.loads(frame))

    def send_binary(self, message: bytes) -> None:
        raise AssertionError("the native protocol has no binary messages")

    def ping(self) -> bool:
        if self.alive:
            self._loop.call_soon(self._pong)
        return True

    def close(self, code: int, reason: str = "") -> None:
        if not self.over:
            self.over = True
            self.closed = int(code), reason
            self._loop.call_soon(self._answer_close)

    def abort(self) -> None:
        self.over = True
        self._loop.call_soon(self.drop)

    def unsent(self) -> int:
        return 0

    def _pong(self) -> None:
        if not self._lost:
            self._endpoint.on_heard()

    def _answer_close(self) -> None:
        if self.closed is not None and not self._lost and self.alive:
            self._endpoint.on_close_frame(self.closed[0], "")
            self.drop()

    # -- what the client does -------------------------------------------------------------------------------------

    def open(self) -> None:
        """The 101 has arrived."""
        self._endpoint.on_open(self)

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a message; into a closed connection it is lost."""
        if not self.over and self.alive:
            self._endpoint.on_text(json.dumps(message).encode())

    def leave(self, code: int) -> None:
        """Send a close frame, and end TCP."""
        if not self.over:
            self.over = True
            self._endpoint.on_close_frame(code, "")
        self.drop()

    def drop(self) -> None:
        """End TCP."""
        if not self._lost:
            self.over = self._lost = True
            self._endpoint.on_lost(None)


class Client:
    """A tab of a user. Whatever it does, it does at once; what follows from it needs ``await world.advance(…)``, or
    ``await world.settle()`` where no time has to pass.
    """

    def __init__(self, world: World, user: str, *, tab: str, upgrade: Mapping[str, Any]) -> None:
        """Not connected yet; :meth:`World.connect` makes them.

        Args:
            world: where it lives.
            user: whose tab it is, for messages.
            tab: the id that survives its reloads.
            upgrade: what its upgrade requests say; see :meth:`World.connect`.
        """
        self._world = world
        self.name = user
        self.tab = tab
        self._upgrade = upgrade
        self.messages: list[dict[str, Any]] = []
        """Everything that the server sent, over all connections of this tab."""
        self.saw: list[Sight] = []
        """The changes that its user saw of the users it watches, after what it saw at first."""
        self._sees: dict[str, tuple[str, int, str]] = {}  # epoch, version, status
        self._rooms: dict[str, dict[str, str]] = {}
        self._counts: dict[str, int] = {}
        self._watches: dict[str, None] = {}
        self._joined: dict[str, dict[str, Any]] = {}
        self._requests = 0
        self._link: Link | None = None
        self._coming: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Client {self.name}, tab {self.tab}, {'connected' if self.connected else 'not connected'}>"

    # -- what its user sees ---------------------------------------------------------------------------------------

    def sees(self, user: str) -> str:
        """The status that is shown of a user: ``online``, ``away``, ``busy``, ``offline`` or ``unknown``."""
        return self._sees.get(user, ("", 0, "unknown"))[2]

    def members(self, room: str) -> dict[str, str]:
        """Who is shown in a room that it joined, with the status; nobody, if it is told by its count."""
        return dict(self._rooms.get(room, {}))

    def count(self, room: str) -> int:
        """How many are in a room that it joined, also where it is so large that nobody is named."""
        return self._counts.get(room, len(self._rooms.get(room, {})))

    def forget(self) -> None:
        """Empty :attr:`saw`: what comes from now on is of interest."""
        self.saw.clear()

    @property
    def connected(self) -> bool:
        """Whether it has an open connection."""
        return self._link is not None and self._link.alive and not self._link.over

    @property
    def closed(self) -> tuple[int, str] | None:
        """Code and reason with which the server closed the last connection; None if it did not."""
        return None if self._link is None else self._link.closed

    @property
    def will_reconnect(self) -> bool:
        """Whether a client that keeps to the protocol comes back after the server's close."""
        return self.closed is None or advice(self.closed[0]) is not Advice.STOP

    # -- what its user does ---------------------------------------------------------------------------------------

    async def watch(self, *users: str) -> None:
        """Follow users, and see them at once; also after each reconnect."""
        self._watches.update(dict.fromkeys(users))
        self._say("watch", users=list(users))
        await self._world.settle()

    async def unwatch(self, *users: str) -> None:
        """Follow them no more."""
        for user in users:
            self._watches.pop(user, None)
            self._sees.pop(user, None)
        self._say("unwatch", users=list(users))
        await self._world.settle()

    async def join(self, room: str, **meta: Any) -> None:
        """Be in a room, and see who else is; also after each reconnect."""
        self._joined[room] = meta
        self._say("join", room=room, meta=meta)
        await self._world.settle()

    async def leave(self, room: str) -> None:
        """Leave a room."""
        self._joined.pop(room, None)
        self._rooms.pop(room, None)
        self._counts.pop(room, None)
        self._say("leave", room=room)
        await self._world.settle()

    async def be(self, availability: str, **meta: Any) -> None:
        """Say of this tab that it is ``active``, ``away``, ``busy`` or ``invisible``."""
        self._say("state", availability=availability, **({"meta": meta} if meta else {}))
        await self._world.settle()

    def reload(self, gap: float = 1.0) -> None:
        """Reload the page: the connection ends, and the same tab is back after ``gap`` seconds of the world's time."""
        self.leave_page(GOING_AWAY)
        self._come_back(gap)

    def lose_network(self, gap: float | None = None) -> None:
        """TCP ends without a close frame; the tab is back after so many seconds, or never."""
        if self._link is not None:
            self._link.drop()
        if gap is not None:
            self._come_back(gap)

    def vanish(self) -> None:
        """The device is gone, as a laptop that is shut: no close, no end of TCP, no answer to any ping."""
        if self._link is not None:
            self._link.alive = False

    def leave_page(self, code: int = GOING_AWAY) -> None:
        """Close the tab, as browsers do; ``code`` of the close frame, such as 1000, 1001, or 4900 of the SDK."""
        if self._link is not None:
            self._link.leave(code)

    def log_out(self) -> None:
        """Say goodbye: watchers see it at once."""
        self._say("bye")

    async def reconnect(self) -> None:
        """Connect again, with the same tab id, watching and in the rooms as before."""
        if self._link is not None and self.connected:
            self._link.leave(GOING_AWAY)
        endpoint = await self._world.upgrade(self.tab, self._upgrade)
        self._link = Link(self, endpoint)
        self._link.open()
        await self._world.settle()
        if self._watches:
            self._say("watch", users=list(self._watches))
        for room, meta in self._joined.items():
            self._say("join", room=room, meta=meta)
        await self._world.settle()

    def _come_back(self, gap: float) -> None:
        async def later() -> None:
            await asyncio.sleep(gap)
            await self.reconnect()

        self._coming = self._world.spawn(later())

    def say(self, message: Mapping[str, Any]) -> None:
        """Send any message of the protocol."""
        if self._link is not None:
            self._link.say(message)

    def _say(self, kind: str, **fields: Any) -> None:
        self._requests += 1
        self.say({"type": kind, "id": self._requests, **fields})

    # -- what the server sends ------------------------------------------------------------------------------------

    def received(self, message: dict[str, Any]) -> None:
        """Take a message, by the rules of the protocol."""
        self.messages.append(message)
        kind = message["type"]
        if kind == "snapshot":
            self._see(message["users"])
        elif kind == "presence":
            self._see(message["changes"])
        elif kind == "room":
            self._enter(message)
        elif kind == "probe":
            self.say({"type": "probe", "n": message["n"]})

    def _see(self, users: Iterable[Mapping[str, Any]]) -> None:
        for shown in users:
            user, status = shown["user"], shown["status"]
            if status == "unknown" or user not in self._watches:
                continue
            before = self._sees.get(user)
            if before is not None and before[0] == shown["epoch"] and shown["version"] <= before[1]:
                continue
            self._sees[user] = shown["epoch"], shown["version"], status
            if before is not None and before[2] != status:
                self.saw.append(Sight(user, status))

    def _enter(self, message: Mapping[str, Any]) -> None:
        members = self._rooms.setdefault(message["room"], {})
        if "count" in message:  # nobody is named until a message with members comes
            self._counts[message["room"]] = message["count"]
            members.clear()
        if "members" in message:
            self._counts.pop(message["room"], None)
            members.clear()
        for member in message.get("leaves", ()):
            members.pop(member["user"], None)
        for kind in ("members", "joins", "updates"):
            members.update({member["user"]: member["status"] for member in message.get(kind, ())})
