"""``/v1/events``: every transition, as server-sent events.

A reader has a cursor of its own and reads the store's log at its own pace, so a slow one costs no memory; it is woken
by the store's news. What its cursor says, it gets, also across a restart of the server; where the log no longer
reaches back, it is told that there is a gap.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stillhere.core.events import Transition
from stillhere.http.answers import ByeData, EventData, EventsQuery, GapData
from stillhere.http.call import Call, checked_id
from stillhere.http.errors import RETRY_AFTER, Refused
from stillhere.http.examples import AT, CURSOR, EPOCH, PRESENCE
from stillhere.http.operations import Access, Answer, Operation, Parameter
from stillhere.server.node import Node
from stillhere.store.contract import Cursor, LogPage, StoreError
from stillhere.wire.frames import member, ms, user_presence

_LOG = logging.getLogger("stillhere.http")

MEDIA_TYPE = "text/event-stream"
CHUNK = 64 * 1024
"""Bytes that are written at once."""

RETRY_MS = 2000
"""After how long an ``EventSource`` reconnects, in milliseconds."""

_WATCH = 0.1
_STORE_RETRY = 0.5
_SEPARATOR = "."
_CURSOR_CHARACTERS = 40


class StreamLimits(msgspec.Struct, frozen=True):
    """Bounds of ``/v1/events``; times in seconds."""

    readers: int = 100
    """How many may listen at once."""
    heartbeat: float = 15.0
    """After so long without an event a comment is sent."""
    stuck: float = 60.0
    """A reader that takes nothing for so long is cut off."""


class Streams:
    """The readers of one application: who wakes them, and how many there are."""

    def __init__(self, node: Node, limits: StreamLimits) -> None:
        """Listen to the store's news, once for all readers."""
        self.node = node
        self.limits = limits
        self.readers = 0
        self._news = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        node.store.on_news(self.announce)

    @property
    def news(self) -> asyncio.Event:
        """Set at the next news. Take it before reading: what comes in between is then not missed."""
        return self._news

    def announce(self) -> None:
        """There is something new, or the node is about to go."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def enter(self) -> None:
        """One more reader."""
        self.readers += 1
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._announce_the_end())

    def leave(self) -> None:
        """One fewer."""
        self.readers -= 1
        if self.readers == 0 and self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _announce_the_end(self) -> None:
        while not self.node.draining:  # noqa: ASYNC110 - a node has no event for it, and one look serves all readers
            await asyncio.sleep(_WATCH)
        self.announce()
        self._watch = None


class Filter(msgspec.Struct, frozen=True):
    """Which transitions a reader wants; an empty set lets all pass."""

    users: frozenset[str] = frozenset()
    rooms: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()

    def passes(self, entry: Transition) -> bool:
        """Whether every filter lets it pass."""
        return (
            (not self.users or entry.user in self.users)
            and (not self.rooms or entry.room in self.rooms)
            and (not self.changes or entry.change in self.changes)
        )


class EventStream(Response):
    """An answer that goes on until one side ends it."""

    media_type = MEDIA_TYPE

    def __init__(self, streams: Streams, after: Sequence[Cursor], wanted: Filter, expires_at: float | None) -> None:
        """Begin after a place of each log; end when the reader's token does, in Unix seconds."""
        self.status_code = 200
        self.background = None
        # nginx and others would keep the events until a buffer is full
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams = streams
        self._node = streams.node
        self._limits = streams.limits
        self._cursors = list(after)
        self._filter = wanted
        self._expires_at = expires_at
        self._send: Send
        self._written = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell, until the reader goes or the node does."""
        self._send = send
        self._streams.enter()
        tasks = {asyncio.create_task(_until_gone(receive)), asyncio.create_task(self._tell())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._streams.leave()
        for task in done:
            try:
                task.result()
            except TimeoutError:
                _LOG.warning("a reader of events took nothing for %g s and was cut off", self._limits.stuck)

    async def _tell(self) -> None:
        await self._send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # the id lets even a reader that has seen no event yet resume where it began
        await self._write(b"retry: %d\n" % RETRY_MS + self._comment("listening"))
        while (why := self._over()) is None:
            news = self._streams.news
            if await self._read():
                continue
            if self._silence() >= self._limits.heartbeat:
                await self._write(self._comment("still here"))
            await self._wait(news)
        await self._write(_event(self._id, "bye", ByeData(why)), more=False)

    async def _read(self) -> bool:
        """Tell the next page of each log; False if there is none."""
        found = False
        for partition in range(len(self._cursors)):
            found = await self._read_partition(partition) or found
        return found

    async def _read_partition(self, partition: int) -> bool:
        try:
            page = await self._node.store.read_log(self._cursors[partition], partition=partition)
        except StoreError:
            await asyncio.sleep(_STORE_RETRY)
            return False
        if page.gap:
            self._cursors[partition] = page.cursor
            await self._write(_event(self._id, "gap", GapData(self._id)))
            return True
        for chunk in self._chunks(page, partition):
            await self._write(chunk)
        self._cursors[partition] = page.cursor
        await asyncio.sleep(0)  # a long log is read in turns with everybody else
        return bool(page.entries or page.notices)

    @property
    def _id(self) -> str:
        """Where the reader is: a place of each log."""
        return _SEPARATOR.join(map(str, self._cursors))

    def _chunks(self, page: LogPage, partition: int) -> Iterator[bytes]:
        """Events, put together for writing."""
        cursors, epoch = self._cursors, page.epoch
        before = "".join(f"{cursor}{_SEPARATOR}" for cursor in cursors[:partition])
        after = "".join(f"{_SEPARATOR}{cursor}" for cursor in cursors[partition + 1 :])
        gathered = bytearray()
        for entry in filter(self._filter.passes, page.entries):
            place = f"{before}{Cursor(epoch, entry.version)}{after}"
            gathered += _event(place, entry.change.value, event_data(epoch, entry))
            if len(gathered) >= CHUNK:
                yield bytes(gathered)
                gathered.clear()
        if gathered:
            yield bytes(gathered)

    async def _wait(self, news: asyncio.Event) -> None:
        """Until there is news, or something else to do."""
        wait = self._limits.heartbeat - self._silence()
        if self._expires_at is not None:
            wait = min(wait, self._expires_at - self._node.now())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait)):
                await news.wait()

    async def _write(self, text: bytes, *, more: bool = True) -> None:
        async with asyncio.timeout(self._limits.stuck):
            await self._send({"type": "http.response.body", "body": text, "more_body": more})
        self._written = self._node.monotonic()

    def _silence(self) -> float:
        return self._node.monotonic() - self._written

    def _comment(self, text: str) -> bytes:
        """No event, but a reader remembers the id."""
        return f"id: {self._id}\n: {text}\n\n".encode()

    def _over(self) -> Literal["draining", "expired"] | None:
        """Why the stream ends now."""
        if self._node.draining:
            return "draining"
        if self._expires_at is not None and self._node.now() >= self._expires_at:
            return "expired"
        return None


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(place: str, name: str, data: msgspec.Struct) -> bytes:
    # JSON escapes line ends, so the data is one line whatever users call themselves
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (place.encode(), name.encode(), msgspec.json.encode(data))


def event_data(epoch: int, entry: Transition) -> EventData:
    """What is told of a transition."""
    return EventData(
        user=entry.user,
        change=entry.change.value,
        version=entry.version,
        epoch=str(epoch),
        at=ms(entry.at),
        cause=entry.cause,
        room=entry.room,
        presence=None if entry.shown is None else user_presence(entry.user, entry.shown, str(epoch)),
        member=None if entry.member is None else member(entry.user, entry.member, str(epoch)),
    )


async def _events(call: Call) -> Response:
    streams = call.api.streams
    wanted = call.query(EventsQuery)
    users = frozenset(checked_id("the user id", user) for user in wanted.user)
    rooms = frozenset(checked_id("the room name", room) for room in wanted.room)
    text = call.request.headers.get("last-event-id") or wanted.after
    store = call.api.node.store
    after = _cursors(text, store.partitions) if text else [await store.tip(p) for p in range(store.partitions)]
    if call.api.node.draining:
        raise Refused(503, "this node is draining", RETRY_AFTER)
    if streams.readers >= streams.limits.readers:
        raise Refused(503, f"{streams.readers} readers listen already, which is the most; try again", RETRY_AFTER)
    wishes = Filter(users, rooms, frozenset(change.value for change in wanted.types))
    return EventStream(streams, after, wishes, call.expires_at)


def _cursors(text: str, partitions: int) -> list[Cursor]:
    try:
        if len(text) > _CURSOR_CHARACTERS * partitions:
            raise ValueError(f"a cursor has at most {_CURSOR_CHARACTERS * partitions} characters, not {len(text)}")
        cursors = [Cursor.parse(part) for part in text.split(_SEPARATOR)]
        if len(cursors) != partitions:
            raise ValueError(
                f"cursor {text[:64]!r} is of a store with another number of partitions ({partitions} here)"
            )
        return cursors
    except ValueError as error:
        raise Refused(400, f"{error}; send back the id of the last event as it was") from None


_EXAMPLE = _event(
    CURSOR,
    "PRESENCE_ONLINE",
    EventData("alice", "PRESENCE_ONLINE", 42, EPOCH, AT, "connection_open", presence=PRESENCE),
)

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/events",
        handler=_events,
        tag="Events",
        summary="Every transition, as it happens",
        description=(
            "Server-sent events: `id` is a cursor, `event` the change, `data` an `EventData`. Resumes after "
            "`Last-Event-ID` (or `after`), also across a restart of the server. Two more events: `gap`, when the log "
            "no longer reaches back to the cursor (take fresh snapshots, and go on), and `bye`, before the stream "
            "ends because the node is draining or the token has expired. A comment every 15 s keeps the connection "
            "alive."
        ),
        access=Access.READ,
        query=EventsQuery,
        headers={"Last-Event-ID": Parameter("The id of the last event that was received.", CURSOR)},
        answer=Answer(EventData, media=MEDIA_TYPE, example=_EXAMPLE.decode(), description="A stream without end."),
        problems=(503,),
    ),
)
