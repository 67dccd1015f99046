"""Entries with other ids in the place of theirs, consistently: so that a recording can be shared and still replayed.

Every id is replaced by a keyed hash (HMAC-SHA-256, RFC 2104): the same id becomes the same pseudonym, and nobody
without the key can find out by trying which id it was. What an application put into metadata keeps its shape: keys and
values are hashed one by one, so that two states are still the same or different. The reasons of closes, which people
wrote, are left out.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from stillhere.core.events import Contributed, Entry, Lapsed, Returned, Transition
from stillhere.core.record import ConnectionSummary, Ending, Leave, Meta, Shown, ShownMember
from stillhere.core.words import ConnectionId, Incarnation, RoomName, SessionId, TabId, UserId

_DIGITS = 16
"""Hexadecimal ones: of a million ids no two are likely to meet."""

replace = msgspec.structs.replace


class Masks:
    """Hides what could be used, and nothing else: sessions and connections, of which a few characters stay."""

    def __init__(self, key: bytes) -> None:
        """Take a key; with another one, other pseudonyms come out."""
        self._key = key

    def _hash(self, kind: str, id: str) -> str:
        return hmac.digest(self._key, f"{kind}\0{id}".encode("utf-8", "surrogatepass"), hashlib.sha256).hex()[:_DIGITS]

    def user(self, id: UserId) -> UserId:
        """The user's id, as it is."""
        return id

    def session(self, id: SessionId) -> SessionId:
        """Enough to tell two sessions apart."""
        return SessionId(f"{id[:3]}…{self._hash('session', id)}") if id else id

    def connection(self, id: ConnectionId) -> ConnectionId:
        """Enough to tell two connections apart, and to find one in the logs."""
        return ConnectionId(f"{id[:8]}…{self._hash('connection', id)}") if id else id

    def tab(self, id: TabId) -> TabId:
        """The tab's id, as it is."""
        return id

    def room(self, name: RoomName) -> RoomName:
        """The room's name, as it is."""
        return name

    def node(self, incarnation: Incarnation) -> Incarnation:
        """The incarnation, as it is."""
        return incarnation

    def meta(self, meta: Meta | None) -> Meta | None:
        """What an application put there, as it is."""
        return meta

    def reason(self, text: str) -> str:
        """Of a close, as it is."""
        return text

    # -- whole things -------------------------------------------------------------------------------------------------

    def entry(self, entry: Entry) -> Entry:
        """An entry with everything in it replaced."""
        entry = replace(entry, user=self.user(entry.user))
        if isinstance(entry, Contributed):
            return replace(
                entry,
                incarnation=self.node(entry.incarnation),
                connections=tuple(map(self._summary, entry.connections)),
                endings=tuple(map(self._ending, entry.endings)),
                leaves=tuple(Leave(self.tab(leave.tab), self.room(leave.room)) for leave in entry.leaves),
                gone=tuple(map(self.connection, entry.gone)),
            )
        if isinstance(entry, Transition):
            return replace(
                entry,
                shown=None if entry.shown is None else self._shown(entry.shown),
                room=None if entry.room is None else self.room(entry.room),
                member=None if entry.member is None else self._member(entry.member),
            )
        if isinstance(entry, Returned):
            return replace(entry, tab=self.tab(entry.tab), session=self.session(entry.session))
        if isinstance(entry, Lapsed):
            return replace(entry, tabs=tuple(sorted(map(self.tab, entry.tabs))))
        return entry

    def _summary(self, c: ConnectionSummary) -> ConnectionSummary:
        return replace(
            c,
            id=self.connection(c.id),
            session=self.session(c.session),
            tab=self.tab(c.tab),
            meta=self.meta(c.meta),
            info=self.meta(c.info),
            rooms=None
            if c.rooms is None
            else {self.room(room): self.meta(meta) or {} for room, meta in c.rooms.items()},
        )

    def _ending(self, e: Ending) -> Ending:
        return replace(
            e,
            connection=self.connection(e.connection),
            session=self.session(e.session),
            tab=self.tab(e.tab),
            last=None if e.last is None else self._summary(e.last),
            reason=self.reason(e.reason),
        )

    def _shown(self, shown: Shown) -> Shown:
        return replace(shown, info=self.meta(shown.info), meta=self.meta(shown.meta))

    def _member(self, member: ShownMember) -> ShownMember:
        metas = tuple((self.connection(id), self.meta(meta) or {}) for id, meta in member.metas)
        return replace(member, info=self.meta(member.info), metas=metas)


class Pseudonyms(Masks):
    """Replaces every id, and what an application said."""

    def user(self, id: UserId) -> UserId:
        """A pseudonym."""
        return UserId(f"user_{self._hash('user', id)}")

    def session(self, id: SessionId) -> SessionId:
        """A pseudonym."""
        return SessionId(f"s_{self._hash('session', id)}") if id else id

    def connection(self, id: ConnectionId) -> ConnectionId:
        """A pseudonym."""
        return ConnectionId(f"c_{self._hash('connection', id)}") if id else id

    def tab(self, id: TabId) -> TabId:
        """A pseudonym."""
        return TabId(f"t_{self._hash('tab', id)}") if id else id

    def room(self, name: RoomName) -> RoomName:
        """A pseudonym."""
        return RoomName(f"room_{self._hash('room', name)}")

    def node(self, incarnation: Incarnation) -> Incarnation:
        """A pseudonym; that of the name stays the same when a node comes back."""
        name, dash, rest = incarnation.rpartition("-")
        if not dash:
            return Incarnation(f"n_{self._hash('node', incarnation)}")
        return Incarnation(f"n_{self._hash('node', name)}-{self._hash('incarnation', rest)}")

    def meta(self, meta: Meta | None) -> Meta | None:
        """Of the same shape."""
        return None if meta is None else {self._hash("key", key): self._value(value) for key, value in meta.items()}

    def _value(self, value: Any) -> str:
        if isinstance(value, Mapping):
            value = dict(value)
        return self._hash("value", msgspec.json.encode(value, order="deterministic").decode())

    def reason(self, text: str) -> str:
        """Nothing of it."""
        return ""
