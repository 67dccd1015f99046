"""Changes for whoever iterates: the newest of each subject, in the order in which they came.

Somebody who iterates slowly is told less often and never late: what has not been taken yet is merged with what comes
after it, so a feed holds at most one change of each user or member.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic, Literal, TypeVar

from stillhere.client.views import ConnectionStatus, PresenceChange, RoomChange, UserView

T = TypeVar("T")


class Feed(Generic[T]):
    """An asynchronous iterator; leaving the loop that iterates over it is all there is to closing it."""

    def __init__(
        self,
        key: Callable[[T], str],
        merge: Callable[[T, T], T | None],
        first: Iterable[T] = (),
        source: object = None,
    ) -> None:
        """Begin with what is so.

        Args:
            key: whose change it is.
            merge: an older change that was not taken yet and a newer one, as one; None if they cancel each other.
            first: what to tell first.
            source: what puts the changes; it lives as long as somebody iterates.
        """
        self._key = key
        self._merge = merge
        self._source = source
        self._waiting: dict[str, T] = {key(change): change for change in first}
        self._news = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None

    def put(self, change: T) -> None:
        """There is news."""
        key = self._key(change)
        before = self._waiting.pop(key, None)
        merged = change if before is None else self._merge(before, change)
        if merged is not None:
            self._waiting[key] = merged
            self._news.set()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; what waits is still told, then the iteration ends, or raises the error."""
        self._ended = True
        self._error = error
        self._news.set()

    def __aiter__(self) -> Feed[T]:
        return self

    async def __anext__(self) -> T:
        while not self._waiting:
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.pop(next(iter(self._waiting)))


def _look(view: UserView) -> tuple[object, ...]:
    return view.status, view.info, view.meta


def merge_presence(older: PresenceChange, newer: PresenceChange) -> PresenceChange | None:
    """Two changes of one user as one; None if the user is shown as before them."""
    before = older.before
    if before is not None and _look(before) == _look(newer.now):
        return None
    return PresenceChange(newer.user, before, newer.now)


_Kind = Literal["joined", "left", "updated"]

_ROOM_MERGE: dict[tuple[_Kind, _Kind], _Kind | None] = {
    ("joined", "updated"): "joined",
    ("joined", "left"): None,
    ("left", "joined"): "updated",
    ("updated", "updated"): "updated",
    ("updated", "left"): "left",
}
"""The newer kind where a pair is not listed: it cannot come, because a room is told in order."""


def merge_room(older: RoomChange, newer: RoomChange) -> RoomChange | None:
    """Two changes of one member as one; None for somebody who came and went unseen."""
    kind = _ROOM_MERGE.get((older.kind, newer.kind), newer.kind)
    return None if kind is None else RoomChange(kind, newer.member)


def presence_feed(first: Iterable[PresenceChange]) -> Feed[PresenceChange]:
    """Changes of users."""
    return Feed(lambda change: change.user, merge_presence, first)


def room_feed(first: Iterable[RoomChange], room: object) -> Feed[RoomChange]:
    """Changes of the members of a room."""
    return Feed(lambda change: change.user, merge_room, first, room)


def status_feed(first: ConnectionStatus) -> Feed[ConnectionStatus]:
    """How the connection stands; only the newest counts."""
    return Feed(lambda _: "status", lambda _, newer: newer, [first])
