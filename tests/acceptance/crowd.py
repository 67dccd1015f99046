"""A crowd: many people who come, reload, flap and leave at random, and watchers who record what they are shown of them.

Seeded, so that a run that fails can be run again (the order in which a server sees things differs all the same). What
is certain of each person is noted as spans: from a welcome that was received until the moment before its end began
somebody was there, whatever the server thinks.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.acceptance.raw import Message
from tests.acceptance.watching import RoomView, Seen, Shown

BYE, RELOAD, CLOSE, ABORT = "bye", "going_away", "client_close", "abnormal"

Token = Callable[[str], str]


class Span(NamedTuple):
    """A stretch of time, Unix seconds, in which a person certainly had a connection, and how it ended."""

    start: float
    end: float
    how: str


async def enter(url: str, token: str, tab: str) -> ClientConnection:
    """Connect and wait for the welcome."""
    protocols = [Subprotocol("stillhere.v1"), Subprotocol(f"bearer.{token}")]
    client = await connect(
        f"{url}?tab={tab}",
        subprotocols=protocols,
        ping_interval=None,
        compression=None,
        max_queue=None,
        proxy=None,
        open_timeout=30,
    )
    assert json.loads(await client.recv())["type"] == "welcome"
    return client


class Person:
    """Somebody who cannot stay anywhere for long."""

    def __init__(self, name: str, url: str, token: str, room: str | None, seed: str) -> None:
        """Stay away until :meth:`live`.

        Args:
            name: the user id.
            url: of the server's WebSockets.
            token: of one session.
            room: which room to be in when connected, if any.
            seed: of all that happens to this person.
        """
        self.name = name
        self.spans: list[Span] = []
        self.surprises: list[str] = []
        """Ends that this person did not bring about."""
        self.connects = 0
        self._url = url
        self._token = token
        self._room = room
        self._random = random.Random(f"{seed} {name}")
        self._client: ClientConnection | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self._since = 0.0
        self._tab = 0

    @property
    def present(self) -> bool:
        """Whether a connection stands."""
        return self._client is not None

    async def live(self, until: float) -> None:
        """Come and go until a time of the monotonic clock, then either stay or go for good."""
        rng = self._random
        await asyncio.sleep(rng.uniform(0, 5))
        while time.monotonic() < until:
            await self._come()
            await asyncio.sleep(min(rng.expovariate(1 / 4), max(0.0, until - time.monotonic())))
            if rng.random() < 0.1:
                await self._change_tabs()
            if time.monotonic() >= until and rng.random() < 0.5:
                return
            how = rng.choices((BYE, RELOAD, CLOSE, ABORT), (2, 4, 2, 2))[0]
            await self._go(how)
            away = rng.uniform(0, 0.6) if how == RELOAD else rng.expovariate(1 / 2)
            await asyncio.sleep(min(away, max(0.0, until - time.monotonic())))

    async def leave(self) -> None:
        """Go, however it ended."""
        if self._client is not None:
            await self._go(BYE)
        for reader in list(self._readers):
            reader.cancel()

    async def _come(self) -> None:
        client = self._client = await enter(self._url, self._token, f"{self.name}-{self._tab}")
        self._since = time.time()
        self.connects += 1
        self._read(client)
        if self._room is not None:
            await client.send(json.dumps({"type": "join", "room": self._room, "meta": {"n": self.connects}}))
        if self._random.random() < 0.2:
            availability = self._random.choice(("away", "busy", "active"))
            await client.send(json.dumps({"type": "state", "availability": availability}))

    async def _change_tabs(self) -> None:
        """The next tab is opened before this one is closed: somebody is there all the time."""
        old = self._client
        assert old is not None
        self._tab += 1
        since = self._since
        await self._come()
        self._since = since
        await self._end(old, RELOAD)

    async def _go(self, how: str) -> None:
        client, self._client = self._client, None
        assert client is not None
        self.spans.append(Span(self._since, time.time(), how))
        await self._end(client, how)

    async def _end(self, client: ClientConnection, how: str) -> None:
        client.leaving = True  # type: ignore[attr-defined]
        if how == BYE:
            await client.send('{"type":"bye"}')
            await client.wait_closed()
        elif how == ABORT:
            client.transport.abort()
        else:
            await client.close(1001 if how == RELOAD else 1000)

    def _read(self, client: ClientConnection) -> None:
        async def read() -> None:
            try:
                async for _ in client:
                    pass
            except ConnectionClosed:
                pass
            if not getattr(client, "leaving", False):
                self.surprises.append(f"{self.name} was closed with {client.close_code} {client.close_reason}")

        task = asyncio.create_task(read())
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)


class Recorder:
    """A watcher on the same loop as the crowd."""

    def __init__(self, name: str, users: Sequence[str], rooms: Sequence[str]) -> None:
        """Record nothing before :meth:`begin`."""
        self.name = name
        self.users = list(users)
        self.rooms = list(rooms)
        self.end: str | None = None
        self._texts: list[tuple[float, str | bytes]] = []

    async def begin(self, url: str, token: str) -> None:
        """Connect, watch, join, and record from then on."""
        client = self._client = await enter(url, token, self.name)
        await client.send(json.dumps({"type": "watch", "id": "w", "users": self.users}))
        for room in self.rooms:
            await client.send(json.dumps({"type": "join", "id": room, "room": room}))
        self._task = asyncio.create_task(self._record(client))

    async def stop(self) -> None:
        """End the connection; what was recorded stays."""
        self._task.cancel()
        await self._client.close()

    async def _record(self, client: ClientConnection) -> None:
        try:
            async for text in client:
                self._texts.append((time.time(), text))
        except ConnectionClosed as end:
            self.end = repr(end)

    def frames(self) -> list[Seen]:
        """Everything, parsed."""
        return [Seen(at, json.loads(text)) for at, text in self._texts]

    def histories(self) -> dict[str, list[Shown]]:
        """What was shown of each user, in order."""
        found: dict[str, list[Shown]] = {user: [] for user in self.users}
        for at, message in self.frames():
            for told in message.get("changes") or (message["users"] if message["type"] == "snapshot" else ()):
                found[told["user"]].append(Shown(at, message["type"], told))
        return found

    def views(self) -> dict[str, RoomView]:
        """The rooms, as they were put together from what was told."""
        views = {room: RoomView() for room in self.rooms}
        for _, message in self.frames():
            if message["type"] == "room":
                views[message["room"]].apply(message)
        return views


def false_offlines(person: Person, history: Sequence[Shown], windows: Mapping[str, float]) -> list[str]:
    """Where a person was shown offline who was there, or who came back within the window.

    Args:
        person: with all spans.
        history: what one watcher was shown of that person.
        windows: seconds, by how a span ended; a bye has none.
    """
    found = []
    went = [shown for shown in history if shown.status == "offline" and shown.version]
    for shown in went:
        at = shown.told["changedAt"] / 1000
        found += [
            f"offline while connected {span}: {shown.told}"
            for span in person.spans
            if span.start + 0.002 < at < span.end - 0.002
        ]
        for before, after in zip(person.spans, person.spans[1:], strict=False):
            covered = after.start - before.end < windows.get(before.how, 0.0)
            until = min(after.start + 0.002, after.end - 0.002)  # a stay of 1 ms has an end of its own, told within it
            if covered and before.end - 0.002 < at < until:
                found.append(f"offline though back in time {before} {after}: {shown.told}")
    return found


def disagreements(histories: Sequence[Mapping[str, Sequence[Shown]]]) -> list[str]:
    """Where two watchers were told different things under one version."""
    first: dict[tuple[str, int], Message] = {}
    found = []
    for history in histories:
        for user, entries in history.items():
            for shown in entries:
                same = first.setdefault((user, shown.version), shown.told)
                if same != shown.told:
                    found.append(f"{same} and {shown.told}")
    return found
