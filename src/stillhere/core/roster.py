"""The roster: the connections of one node, and what the node contributes of each user.

Pure like the ledger: ``now`` comes in (seconds on a monotonic clock of the node, whose zero does not matter), orders
for the sockets go out through :meth:`Roster.take_orders`, and :meth:`Roster.next_deadline` says when
:meth:`Roster.fire` has something to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

from stillhere.core.connection import Connection, Input, cause_of_close
from stillhere.core.deadlines import Deadlines
from stillhere.core.errors import LocalMisuse
from stillhere.core.grace import GracePolicy
from stillhere.core.record import ConnectionSummary, Contribution, Ending, Leave
from stillhere.core.words import (
    Availability,
    Cause,
    ConnectionId,
    ReadyState,
    RoomName,
    SessionId,
    TabId,
    UserId,
)

_CLIENT, _SERVER = "client", "server"


class Order(StrEnum):
    """What the roster wants done to a socket."""

    ABORT = "abort"
    """Drop the transport: its close did not end in time, or the connection is already counted out."""
    SUPERSEDE = "supersede"
    """Close with 4005: a newer connection of the same tab is open."""
    REFUSE = "refuse"
    """The upgrade took too long."""


class Ended(msgspec.Struct, frozen=True):
    """An ending that the store has not acknowledged yet."""

    connection: Connection
    cause: Cause
    code: int
    ended_at: float
    revision: int


class _Person:
    """A user on this node."""

    __slots__ = ("connections", "endings", "leaves", "revision")

    def __init__(self) -> None:
        self.connections: tuple[Connection, ...] = ()
        """Oldest first. Nearly everybody has one, and no endings: tuples take a third of what a dict and lists do."""
        self.revision = 0
        self.endings: tuple[Ended, ...] = ()
        self.leaves: tuple[tuple[int, Leave], ...] = ()


class Roster:
    """Holds the connection machines and keeps track of what the store has to be told."""

    def __init__(self, policy: GracePolicy, *, handshake_timeout: float = 5.0, close_timeout: float = 5.0) -> None:
        """Start empty.

        Args:
            policy: the windows.
            handshake_timeout: seconds that a connection may be CONNECTING.
            close_timeout: seconds that it may be CLOSING.
        """
        self.policy = policy
        self.handshake_timeout = handshake_timeout
        self.close_timeout = close_timeout
        self.connections: dict[ConnectionId, Connection] = {}
        self._people: dict[UserId, _Person] = {}
        self._changed: dict[UserId, None] = {}
        self._deadlines: Deadlines[ConnectionId] = Deadlines()
        self._orders: list[tuple[Order, Connection]] = []
        self._revision = 0

    # -- what comes out -----------------------------------------------------------------------------------------

    def take_orders(self) -> list[tuple[Order, Connection]]:
        """Drain what has to be done to sockets."""
        orders, self._orders = self._orders, []
        return orders

    @property
    def changed(self) -> bool:
        """Whether :meth:`take_contributions` has something."""
        return bool(self._changed)

    def take_contributions(self, now: float, limit: int = 1 << 30) -> list[Contribution]:
        """The users that changed since they were last taken, each whole. A lost one comes back by :meth:`mark`."""
        taken = []
        while self._changed and limit > 0:
            user = next(iter(self._changed))
            del self._changed[user]
            taken.append(self.contribution(user, now))
            limit -= 1
        return taken

    def mark(self, users: Iterable[UserId]) -> None:
        """These have to be told (again): a request was lost, or the store was."""
        for user in users:
            if user in self._people:
                self._changed[user] = None

    def acknowledge(self, contributions: Iterable[Contribution]) -> None:
        """The store has merged these."""
        for told in contributions:
            person = self._people.get(told.user)
            if person is None:
                continue
            person.endings = tuple(e for e in person.endings if e.revision > told.revision)
            person.leaves = tuple((r, leave) for r, leave in person.leaves if r > told.revision)
            if not (person.connections or person.endings or person.leaves or told.user in self._changed):
                del self._people[told.user]

    def contribution(self, user: UserId, now: float) -> Contribution:
        """All that this node has of a user."""
        person = self._people.get(user) or _Person()
        return Contribution(
            user,
            person.revision,
            tuple(_summary(c) for c in person.connections),
            tuple(self._ending(e, now) for e in person.endings),
            tuple(leave for _, leave in person.leaves),
        )

    def _ending(self, e: Ended, now: float) -> Ending:
        c = e.connection
        last = _summary(c) if c.id else None
        return Ending(
            c.id,
            c.session,
            c.tab,
            e.cause,
            self.policy.window(e.cause),
            max(0.0, now - e.ended_at),
            e.code,
            last,
            c.by,
            c.reason,
        )

    def users(self) -> list[UserId]:
        """Every user with something on this node."""
        return list(self._people)

    def of(self, user: UserId) -> list[Connection]:
        """The connections of a user, oldest first."""
        person = self._people.get(user)
        return list(person.connections) if person else []

    def active_count(self, user: UserId) -> int:
        """``activeConnectionCount`` of a user on this node."""
        person = self._people.get(user)
        return sum(c.ready.active for c in person.connections) if person else 0

    def revision_of(self, user: UserId) -> int:
        """The revision of what this node has of a user now; 0 for nothing."""
        person = self._people.get(user)
        return person.revision if person else 0

    @property
    def user_count(self) -> int:
        """How many users have something on this node."""
        return len(self._people)

    def next_deadline(self) -> float | None:
        """When :meth:`fire` has something to do, or None."""
        return self._deadlines.next()

    # -- the life of a connection -------------------------------------------------------------------------------

    def begin(self, connection: Connection, now: float, *, in_flight: bool = False) -> None:
        """An authenticated upgrade begins.

        Args:
            connection: in state CONNECTING.
            now: seconds on the node's clock.
            in_flight: the outcome will take longer than this call, so that the store has to know: OFFLINE waits for it.
        """
        if connection.id in self.connections:
            raise LocalMisuse(f"connection {connection.id} has begun already")
        self.connections[connection.id] = connection
        self._deadlines.set(connection.id, now + self.handshake_timeout)
        person = self._people.get(connection.user)
        if person is None:
            person = self._people[connection.user] = _Person()
        person.connections += (connection,)
        if in_flight:
            self._touch(connection.user)

    def open(self, connection: Connection, now: float) -> None:
        """The upgrade is granted: the connection is active, and supersedes an older one of its tab.

        Where a younger one of its tab is active already, this one is superseded itself.
        """
        connection.step(Input.OPENED)
        self._deadlines.set(connection.id, None)
        self._touch(connection.user)
        for other in self.of(connection.user):
            if other.tab == connection.tab and other is not connection and other.ready.active:
                # an upgrade that took long may be granted after a younger one: it then belongs to a page that is gone
                old = other if other.opened_at <= connection.opened_at else connection
                self._end(old, Input.DEPARTED, now, Cause.SUPERSEDED)
                self._orders.append((Order.SUPERSEDE, old))

    def refuse(self, connection: Connection, now: float) -> None:
        """The upgrade failed."""
        self._end(connection, Input.REFUSED, now)

    def close_received(self, connection: Connection, code: int, now: float, reason: str = "") -> None:
        """The client's close frame."""
        self._closing(connection, Input.CLOSE_RECEIVED, now, cause_of_close(code), code, _CLIENT, reason)

    def close_sent(self, connection: Connection, cause: Cause, code: int, now: float, reason: str = "") -> None:
        """This node began to close the connection."""
        self._closing(connection, Input.CLOSE_SENT, now, cause, code, _SERVER, reason)

    def depart(self, connection: Connection, cause: Cause, now: float, code: int = 0, reason: str = "") -> None:
        """Bye, kick, revocation: the connection counts no longer, whatever TCP does."""
        by = _CLIENT if cause is Cause.BYE else _SERVER
        self._end(connection, Input.DEPARTED, now, cause, code, by, reason)

    def lost(self, connection: Connection, now: float, cause: Cause = Cause.ABNORMAL) -> None:
        """TCP has ended. ``cause`` holds where no close came before."""
        self._end(connection, Input.LOST, now, cause)

    def dismiss(self, user: UserId, cause: Cause, now: float, code: int = 0, reason: str = "") -> list[Connection]:
        """Kick or revoke a user as a whole, windows included. Returns the connections that were expelled here."""
        expelled = self.of(user)
        told = self.active_count(user) > 0  # by the ends of connections; an upgrade that is refused tells no cause
        for connection in expelled:
            self.depart(connection, cause, now, code, reason)
        if not told:
            person = self._people.setdefault(user, _Person())
            nobody = Connection(ConnectionId(""), user, SessionId(""), TabId(""), now)
            nobody.by, nobody.reason = _SERVER, reason
            self._touch(user)
            person.endings += (Ended(nobody, cause, 0, now, person.revision),)
        return expelled

    def fire(self, now: float) -> None:
        """Bound CONNECTING and CLOSING: end what took too long."""
        for id in list(self._deadlines.due(now)):
            connection = self.connections[id]
            if connection.ready is ReadyState.CONNECTING:
                self._end(connection, Input.REFUSED, now)
                self._orders.append((Order.REFUSE, connection))
            else:
                self._end(connection, Input.TIMED_OUT, now)
                self._orders.append((Order.ABORT, connection))

    # -- what a connection says of itself: after its end, that is ignored -----------------------------------------

    def state(self, connection: Connection, availability: Availability | None, meta: dict[str, Any] | None) -> None:
        """Set the availability and merge the metadata (shallow; None deletes a key). None leaves as it is."""
        if connection.ready is ReadyState.CLOSED:
            return
        if availability is not None:
            connection.availability = availability
        if meta is not None:
            merged = {**(connection.meta or {}), **meta}
            connection.meta = {key: value for key, value in merged.items() if value is not None}
        self._touch(connection.user)

    def adopt(self, user: UserId, told: ConnectionSummary) -> None:
        """The store found that a connection takes over its tab's availability and metadata."""
        connection = self.connections.get(told.id)
        if connection is not None and connection.user == user:
            if connection.availability is None:
                connection.availability = told.availability
            if connection.meta is None:
                connection.meta = told.meta

    def join(self, connection: Connection, room: RoomName, meta: dict[str, Any]) -> None:
        """Be present in a room, or change the metadata there."""
        if connection.ready is ReadyState.CLOSED:
            return
        connection.rooms = {**(connection.rooms or {}), room: meta}
        self._touch(connection.user)

    def leave(self, connection: Connection, room: RoomName) -> bool:
        """Leave a room at once, the windows of the tab included. Returns whether the connection was in it."""
        if connection.ready is ReadyState.CLOSED:
            return False
        person = self._touch(connection.user)
        person.leaves += ((person.revision, Leave(connection.tab, room)),)
        # the windows of the tab keep it there no longer; this undoes those of which the store has not heard yet
        for ended in person.endings:
            if ended.connection.tab == connection.tab:
                _forget_room(ended.connection, room)
        return _forget_room(connection, room)

    # -- inside -------------------------------------------------------------------------------------------------

    def _touch(self, user: UserId) -> _Person:
        person = self._people[user]
        # one counter for the node: a user who left and came back must not start again at 1
        self._revision += 1
        person.revision = self._revision
        self._changed[user] = None
        return person

    def _closing(
        self, connection: Connection, what: Input, now: float, cause: Cause, code: int, by: str, reason: str
    ) -> None:
        if connection.step(what, cause, code, by, reason):
            self._deadlines.set(connection.id, now + self.close_timeout)
            self._touch(connection.user)

    def _end(
        self,
        connection: Connection,
        what: Input,
        now: float,
        cause: Cause | None = None,
        code: int = 0,
        by: str = "",
        reason: str = "",
    ) -> None:
        """The one place where a connection leaves the roster: it removes itself and nothing else."""
        was_active = connection.ready.active
        if not connection.step(what, cause, code, by, reason):
            return
        del self.connections[connection.id]
        self._deadlines.set(connection.id, None)
        person = self._people[connection.user]
        person.connections = tuple(c for c in person.connections if c is not connection)
        if was_active:
            person = self._touch(connection.user)
            ended = Ended(connection, connection.cause or Cause.ABNORMAL, connection.code, now, person.revision)
            person.endings += (ended,)
        elif person.revision:  # the store knows of the user, so perhaps of this upgrade
            self._touch(connection.user)
        elif not person.connections:
            del self._people[connection.user]


def _forget_room(connection: Connection, room: RoomName) -> bool:
    if not connection.rooms or room not in connection.rooms:
        return False
    connection.rooms = {r: meta for r, meta in connection.rooms.items() if r != room} or None
    return True


def _summary(c: Connection) -> ConnectionSummary:
    return ConnectionSummary(
        c.id, c.session, c.tab, c.ready, c.opened_at, c.availability, c.meta, c.info, c.rooms, c.client
    )
