"""What the HTTP API answers, as types (``docs/api.md``). Times are milliseconds since the Unix epoch.

How a user or a member is shown has the same shape as on the socket. Fields that a later server adds are ignored; those
that an earlier one does not send have defaults.
"""

from __future__ import annotations

import msgspec

from stillhere.wire.messages import Member, UserPresence


class Answer(msgspec.Struct, rename="camel", frozen=True):
    """Anything that is answered."""


# -- users ---------------------------------------------------------------------------------------------------------


class PresenceList(Answer, frozen=True):
    """The answer to a query; ``complete`` is False where an entry is ``unknown``."""

    users: list[UserPresence]
    complete: bool


class PresencePage(Answer, frozen=True):
    """Some of the known users, in the order of their ids; ``cursor`` is None at the end."""

    users: list[UserPresence]
    cursor: str | None = None


class Disconnected(Answer, frozen=True):
    """Whom it hit, and how many connections were closed."""

    user: str
    disconnected: int


class ConnectionInfo(Answer, frozen=True):
    """One connection; ``last_heard_at`` is None for one of another node, ``cause`` is why it is closing."""

    connection_key: str
    ready_state: str
    opened_at: int
    node: str
    tab: str
    client: str
    availability: str
    last_heard_at: int | None = None
    cause: str | None = None


class GraceInfo(Answer, frozen=True):
    """The grace window that a user without an active connection is in."""

    cause: str
    started_at: int
    window_ms: int
    deadline: int


class LastTransition(Answer, frozen=True):
    """The last change that watchers were shown."""

    type: str
    at: int
    cause: str


class Diagnostics(Answer, frozen=True):
    """All that is known of a user at one moment."""

    user: str
    online: bool
    status: str
    active_connection_count: int
    connection_keys: list[str]
    connections: list[ConnectionInfo]
    epoch: str
    version: int
    complete: bool
    grace: GraceInfo | None = None
    last_transition: LastTransition | None = None


# -- rooms and nodes -----------------------------------------------------------------------------------------------


class RoomCount(Answer, frozen=True):
    """A room, and how many are in it."""

    room: str
    members: int


class RoomPage(Answer, frozen=True):
    """Some of the rooms, in the order of their names; ``cursor`` is None at the end."""

    rooms: list[RoomCount]
    cursor: str | None = None


class RoomMembers(Answer, frozen=True):
    """Who is in a room; ``members`` is None in one that is so large that only the count is told.

    ``statuses`` is there where not all members are told; ``cursor`` in a page that is not the last one.
    """

    room: str
    epoch: str
    count: int
    members: list[Member] | None = None
    statuses: dict[str, int] | None = None
    cursor: str | None = None


class NodeInfo(Answer, frozen=True):
    """A server process."""

    node: str
    incarnation: str
    started_at: int
    connections: int
    users: int
    lease_ms: int
    ready: bool
    draining: bool
    isolated: bool = False


class Nodes(Answer, frozen=True):
    """The nodes of the installation."""

    nodes: list[NodeInfo]


class Draining(Answer, frozen=True):
    """The drain has begun: of so many connections, over so many milliseconds."""

    node: str
    connections: int
    drain_ms: int


# -- figures -------------------------------------------------------------------------------------------------------


class Now(Answer, frozen=True):
    """Counts of this moment."""

    connections: int
    users: int
    users_present: int
    users_known: int
    windows_pending: int
    rooms: int
    topics: int


class Totals(Answer, frozen=True):
    """Counts since the node started."""

    connects: int
    disconnects: int
    refused: int
    online: int
    offline: int
    updated: int
    messages: int
    frames: int


class PerSecond(Answer, frozen=True):
    """The same, per second, over the last ``over_ms``."""

    over_ms: int
    connects: float
    disconnects: float
    transitions: float
    messages: float
    frames: float


class FalseOffline(Answer, frozen=True):
    """How good the grace windows are, since the node started."""

    total: int
    by_cause: dict[str, int]
    returns: dict[str, int]
    ghost_ms: dict[str, int]
    too_short_ms: dict[str, int]
    """By how much the windows of false offlines were too short, summed up, by cause."""
    window_ms: dict[str, int] = {}
    """The windows in force, by cause; empty from a server that does not tell them."""


class Service(Answer, frozen=True):
    """How the process is."""

    started_at: int
    store: str
    store_reachable: bool
    store_backlog: int
    loop_lag_ms: int
    loop_stalled_ms: int
    draining: bool


class Stats(Answer, frozen=True):
    """Figures of the node that answered."""

    at: int
    node: str
    now: Now
    totals: Totals
    per_second: PerSecond
    false_offline: FalseOffline
    service: Service


# -- events --------------------------------------------------------------------------------------------------------


class EventData(Answer, frozen=True):
    """The data of an event, as it is sent."""

    user: str
    change: str
    version: int
    epoch: str
    at: int
    cause: str
    room: str | None = None
    presence: UserPresence | None = None
    member: Member | None = None


class Transition(msgspec.Struct, frozen=True):
    """One change that watchers were shown.

    Attributes:
        cursor: resume after it with ``events(after=…)``.
        change: ``PRESENCE_ONLINE``, ``PRESENCE_OFFLINE``, ``PRESENCE_UPDATED``, ``ROOM_JOINED``, ``ROOM_LEFT`` or
            ``ROOM_UPDATED``.
        cause: why.
        presence: of the first three.
        room: of the others, with ``member`` except for ``ROOM_LEFT``.
    """

    cursor: str
    user: str
    change: str
    version: int
    epoch: str
    at: int
    cause: str
    room: str | None = None
    presence: UserPresence | None = None
    member: Member | None = None


class Gap(msgspec.Struct, frozen=True):
    """The server's log no longer reaches back to where the reader was: take fresh snapshots, and go on."""

    cursor: str
