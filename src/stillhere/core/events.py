"""What the ledger reports: frozen facts, queued and drained, for watchers, logs, metrics and the timeline.

``gc=False`` as in :mod:`stillhere.core.record`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from stillhere.core.record import ConnectionSummary, Ending, Leave, Shown, ShownMember
from stillhere.core.words import Cause, ConnectionId, Incarnation, RoomName, SessionId, TabId, UserId


class Change(StrEnum):
    """What kind of transition watchers see."""

    ONLINE = "PRESENCE_ONLINE"
    OFFLINE = "PRESENCE_OFFLINE"
    UPDATED = "PRESENCE_UPDATED"
    JOINED = "ROOM_JOINED"
    LEFT = "ROOM_LEFT"
    MEMBER = "ROOM_UPDATED"


class Transition(msgspec.Struct, frozen=True, array_like=True, tag="t", gc=False):
    """A change that watchers can see. Its version is its place in the log."""

    user: UserId
    change: Change
    version: int
    at: float
    cause: str
    """A :class:`Cause`, or ``connection_open``, ``state``, ``room``, ``invisible``."""
    shown: Shown | None = None
    """Of the user; None in a room's transition."""
    room: RoomName | None = None
    member: ShownMember | None = None
    """Of the user in the room; None when they left."""
    connections: int = 0
    """``activeConnectionsForUser`` after the change."""


class GraceStarted(msgspec.Struct, frozen=True, array_like=True, tag="s", gc=False):
    """The last active connection ended; the user is held."""

    user: UserId
    at: float
    cause: Cause
    window: float
    ended_at: float


class GraceCancelled(msgspec.Struct, frozen=True, array_like=True, tag="c", gc=False):
    """A connection came in time, or a departure ended the window early (then ``by`` is its cause)."""

    user: UserId
    at: float
    cause: Cause
    gap: float
    """Seconds since the last connection had ended."""
    by: str = "connection_open"


class GraceExpired(msgspec.Struct, frozen=True, array_like=True, tag="x", gc=False):
    """The window ran out without a connection."""

    user: UserId
    at: float
    cause: Cause
    ghost: float
    """Seconds during which the user was shown although the last connection had ended."""


class Returned(msgspec.Struct, frozen=True, array_like=True, tag="r", gc=False):
    """A tab or session that had gone without a word is back."""

    user: UserId
    at: float
    tab: TabId
    session: SessionId
    cause: Cause
    """Of its end."""
    gap: float
    """Seconds between the end and the return."""
    false_offline: bool
    """An OFFLINE had been shown in between, within the horizon."""
    window: float = 0.0
    """Of its end, in seconds: by what the gap exceeds it, it was too short."""


class Contributed(msgspec.Struct, frozen=True, array_like=True, tag="d", gc=False):
    """What a node told of a user, as far as it was new: the input that all else follows from. For the timeline alone.

    From these, the same rules make the same transitions again, or others under other windows.
    """

    user: UserId
    at: float
    """When the store took it, Unix time."""
    incarnation: Incarnation
    """Which node told it; of a dead one, the store itself."""
    connections: tuple[ConnectionSummary, ...] = ()
    """New, or other than before."""
    endings: tuple[Ending, ...] = ()
    """``last`` is left out where the connection is known as it was."""
    leaves: tuple[Leave, ...] = ()
    gone: tuple[ConnectionId, ...] = ()
    """Told no more, and never active: an upgrade that failed."""
    clock: float = 0.0
    """The store clock, in seconds: what windows are measured on."""
    on_hold: bool = False
    """Nothing expired at that time, after trouble with the store or a jump of its clock."""
    ended_at: float | None = None
    """Of a dead node: when it was heard last, which is when its connections ended as far as anybody knows."""
    fresh: bool = False
    """Until then nobody carried the user and no window ran: whoever reads from here on has missed nothing."""
    epoch: int = 0
    """Of a store that watchers outlive, 0 of others."""
    recovering: bool = False
    """The store was still being told who is there."""


class Lapsed(msgspec.Struct, frozen=True, array_like=True, tag="l", gc=False):
    """The windows of some tabs ran out. For the timeline alone: for watchers nothing may have changed."""

    user: UserId
    at: float
    tabs: tuple[TabId, ...]
    clock: float
    """The store clock, in seconds."""


class Prolonged(msgspec.Struct, frozen=True, array_like=True, tag="p", gc=False):
    """After a restart of the only node, the windows of a user last at least so long from then on."""

    user: UserId
    at: float
    cause: Cause
    window: float
    clock: float
    """The store clock, in seconds."""


class NoticeKind(StrEnum):
    """What nodes have to hear of each other."""

    JOINED = "joined"
    """A node: whoever sees its users knows of it, since this comes first."""
    SUPERSEDED = "superseded"
    """A connection: a newer one of its tab is open on another node."""
    DISMISSED = "dismissed"
    """A user: all connections end with 4004."""
    DRAIN = "drain"
    """A node: it shall move its clients away."""


class Notice(msgspec.Struct, frozen=True, array_like=True, tag="n", gc=False):
    """A word from node to node; it has a place in the log, between the transitions."""

    kind: NoticeKind
    version: int
    at: float
    target: str = ""
    """An incarnation, a process, or the name of a node; empty for all."""
    user: UserId = UserId("")
    connection: ConnectionId = ConnectionId("")
    cause: str = ""
    reason: str = ""


Event = Transition | GraceStarted | GraceCancelled | GraceExpired | Returned
"""What the ledger reports."""

Given = Contributed | Lapsed | Prolonged
"""What a timeline has beside it: the premises, from which the same rules come to the same events again."""

Entry = Event | Given
"""What a timeline is made of."""


def ghost_of(event: Transition) -> float:
    """For how long an OFFLINE came too late: seconds during which a user was shown although the last connection had
    ended. 0 for any other transition, and for one who became invisible and is still there.
    """
    if event.change is not Change.OFFLINE or event.shown is None or event.connections:
        return 0.0
    return max(0.0, event.at - (event.shown.last_seen_at or event.at))
