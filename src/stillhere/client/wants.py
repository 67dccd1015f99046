"""What the application wants, and what this connection has told the server of it.

Every call only notes a wish; what the server does not know yet is sent together. So a reconnect is nothing special,
and a hundred parts of a program that watch one user each send one message.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from stillhere.client.errors import BadId, BadMeta, RequestRefused
from stillhere.core.words import Availability
from stillhere.wire.codes import ErrorCode
from stillhere.wire.ids import id_fault
from stillhere.wire.messages import ClientMessage, Error, Join, Leave, State, Unwatch, Watch

CHUNK = 60
"""Users named in one message: so many ids of 256 bytes, escaped, stay below the server's bound of 32 KiB."""

AT_ONCE = 30
"""The server allows 40 messages at once and 20 a second; answers to probes and pings need room as well."""

PAUSE = 2.0
"""After how many seconds the rest follows."""

RETRY = 1.5
"""When what was refused for the moment is sent again: after so many seconds, and up to twice as many."""

_PASSING = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL})
"""The server may take these later; nothing is wrong with the request."""


class _Telling(NamedTuple):
    """A message, what is known to the server once it is sent, and how to forget that again."""

    message: ClientMessage
    note: Callable[[], object]
    undo: Callable[[], object]


class Wants:
    """See the module.

    Attributes:
        users: how many callers want to follow each.
        rooms: how many callers want to be in each.
    """

    def __init__(self, availability: Availability) -> None:
        """Want nothing but to be seen like this."""
        self.availability = availability
        self.users: dict[str, int] = {}
        self.rooms: dict[str, int] = {}
        self._room_metas: dict[str, bytes] = {}
        self._meta: dict[str, Any] = {}
        self._told_users: set[str] = set()
        self._told_rooms: dict[str, bytes] = {}
        self._told_meta: dict[str, bytes] = {}
        self._told_availability: Availability | None = None
        self._pending: dict[int, _Telling] = {}

    # -- wishes ---------------------------------------------------------------------------------------------------

    @property
    def meta(self) -> Mapping[str, Any]:
        """What was said with ``set_meta``."""
        return {key: value for key, value in self._meta.items() if value is not None}

    def watch(self, users: Iterable[str]) -> None:
        """One more wants to follow these.

        Raises:
            BadId: one of them is no user id; nothing is noted.
        """
        _count(self.users, _checked("the user id", users), 1)

    def unwatch(self, users: Iterable[str]) -> None:
        """One fewer does."""
        _count(self.users, dict.fromkeys(users), -1)

    def join(self, room: str, meta: Mapping[str, Any] | None) -> None:
        """One more wants to be in a room; the newest ``meta`` counts.

        Raises:
            BadId, BadMeta: nothing is noted.
        """
        names = _checked("the room name", (room,))
        if meta is not None or room not in self.rooms:
            self._room_metas[room] = encoded_meta(meta or {})
        _count(self.rooms, names, 1)

    def set_room_meta(self, room: str, meta: Mapping[str, Any]) -> None:
        """What this connection says of itself in a room that is joined.

        Raises:
            BadMeta: nothing is noted.
        """
        encoded = encoded_meta(meta)
        if room in self.rooms:
            self._room_metas[room] = encoded

    def leave(self, room: str) -> None:
        """One fewer does."""
        _count(self.rooms, (room,), -1)
        if room not in self.rooms:
            self._room_metas.pop(room, None)

    def set_meta(self, patch: Mapping[str, Any]) -> None:
        """Merge shallowly; None deletes a key.

        Raises:
            BadMeta: nothing is noted.
        """
        self._meta.update(msgspec.json.decode(encoded_meta(patch)))

    # -- what the server knows ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new connection knows nothing but what its address said."""
        self._told_users.clear()
        self._told_rooms.clear()
        self._told_meta.clear()
        self._pending.clear()
        self._told_availability = self.availability

    def resync(self) -> None:
        """The store was rebuilt: ask for everybody anew."""
        self._told_users.clear()
        for room in self.rooms:  # those to be left stay known
            self._told_rooms.pop(room, None)

    def untold(self, next_id: Callable[[], int]) -> tuple[list[ClientMessage], bool]:
        """What is to be sent: first what others see of this tab, then what makes room, then the rest.

        Args:
            next_id: gives the id of each.

        Returns:
            The messages, and whether there are more than may be sent at once.
        """
        messages: list[ClientMessage] = []
        for telling in self._tellings():
            if len(messages) == AT_ONCE:
                return messages, True
            id = next_id()
            message = msgspec.structs.replace(telling.message, id=id)
            messages.append(message)
            telling.note()
            self._pending[id] = telling._replace(message=message)
        return messages, False

    def answered(self, id: int) -> None:
        """The server has taken a request."""
        self._pending.pop(id, None)

    def refused(self, error: Error) -> RequestRefused | None:
        """The server has refused a request.

        Returns:
            What to tell the application; None if that was for the moment and is to be sent again.
        """
        found = self._pending.pop(error.id, None) if isinstance(error.id, int) else None
        if error.code in _PASSING:
            # over the rate, the server has not even read which request it was: whatever is not answered goes out again
            for telling in [found] if found else list(self._pending.values()):
                telling.undo()
            if found is None:
                self._pending.clear()
            return None
        if found is None:
            return RequestRefused(error.code, error.message)
        message = found.message
        kind = str(type(message).__struct_config__.tag)
        return RequestRefused(error.code, error.message, kind, getattr(message, "room", None))

    def _tellings(self) -> Iterator[_Telling]:
        yield from self._state()
        yield from self._user_changes(Unwatch, self._told_users, self.users)
        for room in [room for room in self._told_rooms if room not in self.rooms]:
            yield self._leaving(room)
        yield from self._user_changes(Watch, self.users, self._told_users)
        for room in self.rooms:
            if self._told_rooms.get(room) != self._room_metas[room]:
                yield self._joining(room, self._room_metas[room])

    def _state(self) -> Iterator[_Telling]:
        availability = self.availability
        encoded = {key: msgspec.json.encode(value) for key, value in self._meta.items()}
        news = {key: text for key, text in encoded.items() if self._told_meta.get(key) != text}
        if availability is self._told_availability and not news:
            return

        def note() -> None:
            self._told_availability = availability
            self._told_meta.update(news)

        def undo() -> None:
            self._told_availability = None
            self._told_meta.clear()

        said = None if availability is self._told_availability else availability
        yield _Telling(State(said, {key: self._meta[key] for key in news} or None), note, undo)

    def _user_changes(
        self, kind: type[Watch] | type[Unwatch], all: Iterable[str], but: Container[str]
    ) -> Iterator[_Telling]:
        wanted = [user for user in all if user not in but]
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            add, remove = self._marks(chunk)
            yield _Telling(kind(chunk), add, remove) if kind is Watch else _Telling(kind(chunk), remove, add)

    def _marks(self, users: list[str]) -> tuple[Callable[[], None], Callable[[], None]]:
        told = self._told_users
        return lambda: told.update(users), lambda: told.difference_update(users)

    def _joining(self, room: str, meta: bytes) -> _Telling:
        told = self._told_rooms
        message = Join(room, msgspec.json.decode(meta))
        return _Telling(message, lambda: told.__setitem__(room, meta), lambda: told.pop(room, None))

    def _leaving(self, room: str) -> _Telling:
        told = self._told_rooms
        return _Telling(Leave(room), lambda: told.pop(room, None), lambda: told.__setitem__(room, b""))


def encoded_meta(meta: Mapping[str, Any]) -> bytes:
    """A JSON object of the application, encoded.

    Raises:
        BadMeta: it is none.
    """
    if not isinstance(meta, Mapping):
        raise BadMeta(f"meta is {type(meta).__name__}, which is no JSON object")
    if not all(isinstance(key, str) for key in meta):
        raise BadMeta("meta has a key that is no text")
    try:
        return msgspec.json.encode(dict(meta))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadMeta(f"meta cannot be written as JSON: {error}") from None


def checked_id(what: str, text: object) -> str:
    """A user id or a room name.

    Args:
        what: how the message is to call it.
        text: to be one.

    Raises:
        BadId: it is none.
    """
    if not isinstance(text, str):
        raise BadId(f"{what} is {type(text).__name__}; it must be text")
    fault = id_fault(text)
    if fault is not None:
        raise BadId(f"{what} {fault}")
    return text


def _checked(what: str, ids: Iterable[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys([checked_id(what, id) for id in ids]))


def _count(wanted: dict[str, int], ids: Iterable[str], by: int) -> None:
    for id in ids:
        left = wanted.get(id, 0) + by
        if left > 0:
            wanted[id] = left
        else:
            wanted.pop(id, None)
