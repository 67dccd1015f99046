"""Every transition, told to the application in its own process: as a stream, and to callbacks.

A reader has a cursor of its own and reads the store's log at its own pace: a slow one costs no memory and holds nobody
up. Where the log no longer reaches back to its cursor, it is told that there is a gap. The cursors are those of the
event stream ``/v1/events``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from stillhere.core import events
from stillhere.core.events import Change
from stillhere.core.words import Status
from stillhere.embed.callbacks import LOG, Callbacks
from stillhere.server.node import Node
from stillhere.store.contract import Cursor, Store, StoreError

STORE_RETRY = 0.5
"""Seconds between two looks at a store that is out of reach."""

_SEPARATOR = "."


@dataclass(frozen=True, slots=True)
class Transition:
    """A change that watchers could see.

    Attributes:
        user: whose.
        change: ``PRESENCE_ONLINE``, ``PRESENCE_OFFLINE``, ``PRESENCE_UPDATED``, ``ROOM_JOINED``, ``ROOM_LEFT`` or
            ``ROOM_UPDATED``.
        status: what is shown of the user, or of the user in the room; ``offline`` of one who left.
        cause: why: the cause of an end, or ``connection_open``, ``state``, ``room``, ``invisible``.
        at: Unix seconds.
        version: its place in the log.
        room: None where it is about the user as a whole.
        info: the public object of the user's identity.
        meta: what the user's tabs say of themselves.
        cursor: go on after this.
    """

    user: str
    change: Change
    status: Status
    cause: str
    at: float
    version: int
    room: str | None
    info: dict[str, Any] | None
    meta: dict[str, Any] | None
    cursor: str


@dataclass(frozen=True, slots=True)
class Gap:
    """The log no longer reaches back to the cursor: take fresh snapshots, and go on after ``cursor``."""

    cursor: str


def parse_cursor(text: str, partitions: int) -> list[Cursor]:
    """Read a cursor.

    Raises:
        ValueError: it is none, or one of a store with another number of partitions.
    """
    parts = text.split(_SEPARATOR)
    if len(parts) != partitions:
        raise ValueError(f"cursor {text[:64]!r} has {len(parts)} parts; the store has {partitions} partitions")
    return [Cursor.parse(part) for part in parts]


class News:
    """Wakes the readers of one run of a node."""

    def __init__(self, node: Node) -> None:
        """Listen, once for all readers."""
        self.node = node
        self.over = False
        self._event = asyncio.Event()
        node.store.on_news(self._announce)

    @property
    def next(self) -> asyncio.Event:
        """Set at the next news; take it before reading, and nothing is missed in between."""
        return self._event

    def end(self) -> None:
        """There will be none any more."""
        self.over = True
        self._announce()

    def _announce(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()


async def newest(store: Store) -> str:
    """The cursor of now."""
    return _place([await store.tip(p) for p in range(store.partitions)])


async def read(news: News, after: str | None) -> AsyncIterator[Transition | Gap]:
    """Every transition after a cursor, until the node stops.

    Args:
        news: of the running node.
        after: a cursor; None: begin now.

    Raises:
        ValueError: the cursor is none.
        StoreError: ``after`` is None and the store is out of reach. Later outages are waited for.
    """
    store = news.node.store
    cursors = parse_cursor(await newest(store) if after is None else after, store.partitions)
    while not news.over:
        coming, found = news.next, False
        for partition in range(store.partitions):
            try:
                page = await store.read_log(cursors[partition], partition=partition)
            except StoreError:
                await asyncio.sleep(STORE_RETRY)
                found = True  # there may be more, so look again
                continue
            if page.gap:
                cursors[partition] = page.cursor
                yield Gap(_place(cursors))
            for entry in page.entries:
                cursors[partition] = Cursor(page.epoch, entry.version)
                yield _told(entry, _place(cursors))
            cursors[partition] = page.cursor
            found = found or bool(page.entries or page.notices or page.gap)
        if not found:
            await coming.wait()


def _place(cursors: list[Cursor]) -> str:
    return _SEPARATOR.join(map(str, cursors))


def _told(entry: events.Transition, cursor: str) -> Transition:
    shown = entry.shown if entry.room is None else entry.member
    return Transition(
        user=entry.user,
        change=entry.change,
        status=Status.OFFLINE if shown is None else shown.status,
        cause=str(entry.cause),
        at=entry.at,
        version=entry.version,
        room=entry.room,
        info=None if shown is None else shown.info,
        meta=None if entry.shown is None or entry.room is not None else entry.shown.meta,
        cursor=cursor,
    )


OnTransition = Callable[[Transition], Awaitable[None] | None]
OnGap = Callable[[Gap], Awaitable[None] | None]


@dataclass(eq=False, slots=True)
class Listener:
    """A callback that is told of every transition, one after the other."""

    on_transition: OnTransition
    on_gap: OnGap | None
    task: asyncio.Task[None] | None = field(default=None)

    def start(self, news: News, callbacks: Callbacks, after: str | None = None) -> None:
        """Listen from now on, or from a cursor."""
        self.task = asyncio.get_running_loop().create_task(self._listen(news, callbacks, after))

    def stop(self) -> asyncio.Task[None] | None:
        """Listen no more; returns what is ending."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
        return task

    async def _listen(self, news: News, callbacks: Callbacks, after: str | None) -> None:
        while not news.over:
            try:
                async for told in read(news, after):
                    after = told.cursor
                    await self._tell(told, callbacks)
            except StoreError:
                await asyncio.sleep(STORE_RETRY)

    async def _tell(self, told: Transition | Gap, callbacks: Callbacks) -> None:
        try:
            if isinstance(told, Transition):
                await callbacks.call(self.on_transition, told)
            elif self.on_gap is not None:
                await callbacks.call(self.on_gap, told)
            else:
                LOG.warning("a callback of on_transition was too slow: the log does not reach back, some are missed")
        except Exception:
            callbacks.failed("on_transition", "raised")
            LOG.exception("a callback of on_transition raised; the next transition is told all the same")
