"""What the store keeps of one user, and what nodes tell it.

A node writes its own **contribution**, whole and with a revision; nobody else writes that part. The store merges the
contributions of all nodes into the **record** of the user, from which everything that is shown is computed.

Instants named ``…_at`` are Unix time in seconds, for people. Deadlines are on the store clock
(:mod:`stillhere.core.clock`), which never jumps.

``gc=False``: what these hold is JSON and each other, top down, so that no cycle can go through one. The collector need
not look at them, and each is 16 bytes smaller.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stillhere.core.words import (
    Availability,
    Cause,
    ConnectionId,
    Incarnation,
    Phase,
    ReadyState,
    RoomName,
    SessionId,
    Status,
    TabId,
    UserId,
)

Meta = dict[str, Any]
"""A JSON object of the application's own."""


class ConnectionSummary(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a node tells of one of its connections."""

    id: ConnectionId
    session: SessionId
    tab: TabId
    ready: ReadyState
    opened_at: float
    availability: Availability | None = None
    """None: not stated on this connection, so the tab's last one holds."""
    meta: Meta | None = None
    info: Meta | None = None
    rooms: dict[RoomName, Meta] | None = None
    client: str = ""


class Ending(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One active connection ended, and for how long its user is to be held for it."""

    connection: ConnectionId
    session: SessionId
    tab: TabId
    cause: Cause
    window: float
    """Seconds, counted from the end itself; 0 for none."""
    ago: float
    """Seconds since the end when the contribution was built: a delay on the way to the store extends nothing."""
    code: int = 0
    """The close code, 0 where there was none."""
    last: ConnectionSummary | None = None
    """The connection as it was at its end: the store may never have seen it open. None for nobody's, as of a kick."""
    by: str = ""
    """Who closed: ``client``, ``server``; empty where TCP ended without a close frame, or a node was lost."""
    reason: str = ""
    """That of the close frame, or of a kick; at most 123 bytes (RFC 6455 section 5.5)."""


class Leave(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A tab left a room on purpose: no window keeps it there."""

    tab: TabId
    room: RoomName


class Contribution(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that a node has of one user, at one revision."""

    user: UserId
    revision: int
    """Grows with every change; the store ignores what is not newer than what it has."""
    connections: tuple[ConnectionSummary, ...] = ()
    endings: tuple[Ending, ...] = ()
    """In order; those that the store acknowledged are not repeated."""
    leaves: tuple[Leave, ...] = ()


class Hold(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A tab whose connection ended and that may come back: a pending grace window."""

    connection: ConnectionSummary
    """As it last was; it goes on counting for what is shown."""
    cause: Cause
    since: float
    """When the connection ended, Unix time."""
    window: float
    deadline: float
    """On the store clock."""
    latest: float = 0.0
    """When a later connection of the tab ended whose own window was shorter, on the store clock; 0 for none."""
    untold: bool = False
    """The window is that of an earlier end, and of the connection nobody told more than that its node was lost."""

    @property
    def ended(self) -> float:
        """When the last connection of the tab ended, on the store clock."""
        return max(self.latest, self.deadline - self.window)

    @property
    def lost(self) -> bool:
        """Whether the end of the connection is known only from the loss of its node, which may tell of it later."""
        return self.untold or self.cause is Cause.NODE_LOST


class Grace(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The window that a user without an active connection is in: of all pending ones, the longest."""

    cause: Cause
    started_at: float
    window: float
    deadline: float
    """On the store clock."""


class Gone(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A tab that went without saying so: what a reconnect is compared with."""

    tab: TabId
    session: SessionId
    cause: Cause
    ended_at: float
    window: float


class Departure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A goodbye that is remembered: the news of an end before it may come late, from another node."""

    session: SessionId
    tab: TabId
    everything: bool
    """A kick or a revocation, which covers all tabs and sessions."""
    at: float
    """Unix time."""
    clock: float
    """The same instant on the store clock. Jumps fool the one, outages the other: what is covered is before both."""

    def speaks_for(self, session: SessionId, tab: TabId, cause: Cause) -> bool:
        """Whether a connection of this session or tab may be covered, that ended with this cause.

        Not another tab whose node was lost: nobody closed that one, and it may be open on a node that is cut off.
        """
        mine = session == self.session and cause is not Cause.NODE_LOST
        return self.everything or tab == self.tab or mine

    def covers(self, ending: Ending, since: float, clock: float) -> bool:
        """Whether an end came before it, told late: such an end leaves no window.

        Args:
            ending: what a node reports.
            since: when the connection ended, Unix time.
            clock: the same, on the store clock.
        """
        speaks = self.speaks_for(ending.session, ending.tab, ending.cause)
        return speaks and since <= self.at and clock < self.clock


class Shown(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a watcher is shown of a user."""

    status: Status
    version: int
    changed_at: float
    last_seen_at: float | None = None
    info: Meta | None = None
    meta: Meta | None = None

    def looks_like(self, other: Shown) -> bool:
        """Whether a watcher could tell the two apart, versions and times of change aside."""
        return (
            self.status is other.status
            and self.meta == other.meta
            and self.info == other.info
            and self.last_seen_at == other.last_seen_at
        )


NOBODY = Shown(Status.OFFLINE, 0, 0.0)
"""What is shown of a user of whom nothing is known, and of one whom the watcher may not see."""


class ShownMember(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is shown of a user in a room."""

    status: Status
    version: int
    joined_at: float
    info: Meta | None = None
    metas: tuple[tuple[ConnectionId, Meta], ...] = ()

    def looks_like(self, other: ShownMember) -> bool:
        """Whether a watcher could tell the two apart, versions aside."""
        return self.status is other.status and self.metas == other.metas and self.info == other.info


class Share(msgspec.Struct, array_like=True, gc=False):
    """One incarnation's contribution, as stored."""

    revision: int
    connections: tuple[ConnectionSummary, ...]


class Record(msgspec.Struct, array_like=True, gc=False):
    """All that is known of one user, for the whole installation."""

    user: UserId
    phase: Phase = Phase.OFFLINE
    shown: Shown = NOBODY
    shares: dict[Incarnation, Share] = {}
    holds: dict[TabId, Hold] = {}
    grace: Grace | None = None
    """Set while the phase is HELD."""
    members: dict[RoomName, ShownMember] = {}
    """The rooms in which the user is shown."""
    last_seen_at: float | None = None
    """When the last connection ended, not when its window ran out."""
    hidden_at: float | None = None
    """When the user became invisible; what is shown as last seen from then on."""
    gone: tuple[Gone, ...] = ()
    offline_at: float = 0.0
    """When the phase last became OFFLINE, Unix time."""
    departures: tuple[Departure, ...] = ()
    """The latest goodbyes."""
    epoch: int = 0
    """In which epoch something was last published of the user, or a node last told of an active connection."""
    ended: tuple[ConnectionId, ...] = ()
    """Connections of which the window was taken over by a later one of the tab, or ended by a goodbye: the news of
    their end may come again, with an ``ago`` that leaves out how long it was on its way."""
    noted_at: float = 0.0
    """When the last of these was noted, on the store clock."""

    @property
    def left_at(self) -> float:
        """When the user went, Unix time: for how long a user who is offline and carried by nobody is remembered."""
        # of whom nobody was ever told, only a kick is remembered
        return self.departures[-1].at if not self.shown.version and self.departures else self.offline_at

    def connections(self) -> list[tuple[Incarnation, ConnectionSummary]]:
        """Every connection, oldest first, with the incarnation that carries it."""
        found = [(inc, c) for inc, share in self.shares.items() for c in share.connections]
        if len(found) > 1:
            found.sort(key=lambda pair: (pair[1].opened_at, pair[1].id))
        return found

    def carried_by(self, incarnation: Incarnation) -> tuple[ConnectionSummary, ...]:
        """The connections that one incarnation carries."""
        share = self.shares.get(incarnation)
        return share.connections if share else ()

    @property
    def active_count(self) -> int:
        """``activeConnectionCount``: counted from the set, never kept as a number."""
        return sum(c.ready.active for share in self.shares.values() for c in share.connections)
