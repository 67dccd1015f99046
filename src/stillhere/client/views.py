"""What the application is shown. Every object is frozen; a change makes a new one.

Times are those of the protocol: milliseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from stillhere.client.errors import ClientError
from stillhere.core.words import Availability, Status

Meta = Mapping[str, Any]
"""A JSON object of the application."""


class ConnectionStatus(StrEnum):
    """How the connection stands."""

    CONNECTING = "connecting"
    """For the first time."""
    ONLINE = "online"
    """Welcomed."""
    RECONNECTING = "reconnecting"
    """After it was online."""
    OFFLINE = "offline"
    """Nobody wants one."""
    REFUSED = "refused"
    """The server asked not to come back; ``error`` says why."""


@dataclass(frozen=True, slots=True)
class UserView:
    """A user, as the application sees it.

    Attributes:
        status: the last that was told; ``unknown`` before the first answer, never ``offline`` for want of a connection.
        stale: whether it may be out of date: not connected, or not told yet on this connection.
        changed_at: when the status changed, in ms; None before the first answer.
        last_seen_at: when the user was last connected, in ms.
        info: the public object of the user's token.
        meta: what the user's tabs say of themselves.
    """

    user: str
    status: Status = Status.UNKNOWN
    stale: bool = True
    changed_at: int | None = None
    last_seen_at: int | None = None
    info: Meta | None = None
    meta: Meta | None = None

    @property
    def online(self) -> bool:
        """Whether somebody is there, be it active, away or busy."""
        return self.status in (Status.ONLINE, Status.AWAY, Status.BUSY)


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member of a room.

    Attributes:
        joined_at: in ms.
        metas: what each connection says of itself in the room, by connection id.
    """

    user: str
    status: Status
    joined_at: int | None = None
    info: Meta | None = None
    metas: Mapping[str, Meta] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoomView:
    """A room.

    Attributes:
        members: in the order of their arrival; of a room that is so large that it is told by its count, nobody.
        stale: as in :class:`UserView`.
        count: how many are in it.
        statuses: how many of them have each status, in a room that is told by its count; None in any other.
    """

    room: str
    members: tuple[MemberView, ...] = ()
    stale: bool = True
    count: int = 0
    statuses: Mapping[str, int] | None = None

    @property
    def counted(self) -> bool:
        """Whether it is so large that the server tells its count and not its members."""
        return self.statuses is not None


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """A difference that a person may be shown; ``before`` is None the first time."""

    user: str
    before: UserView | None
    now: UserView


@dataclass(frozen=True, slots=True)
class RoomChange:
    """A difference in a room."""

    kind: Literal["joined", "left", "updated"]
    member: MemberView

    @property
    def user(self) -> str:
        """Whose."""
        return self.member.user


@dataclass(frozen=True, slots=True)
class SelfView:
    """This client and its user.

    Attributes:
        user: who the token says that this is; empty before the first welcome.
        tab: the id of this client, kept for its life.
        availability: what it says of itself.
        meta: what it said with ``set_meta``.
    """

    tab: str
    user: str = ""
    connection_id: str = ""
    session_id: str = ""
    node: str = ""
    availability: Availability = Availability.ACTIVE
    meta: Meta = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known, for showing or for a bug report."""

    status: ConnectionStatus
    error: ClientError | None
    me: SelfView
    users: tuple[UserView, ...]
    rooms: tuple[RoomView, ...]
