"""What the HTTP API takes and answers, as types; the API document is made from them.

Names are those of ``docs/protocol.md`` section 2. Times are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stillhere.core.events import Change
from stillhere.wire.ids import ID_BYTES
from stillhere.wire.messages import Member, UserPresence

NO_CONTROLS = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
"""For readers of the API document; what decides is :func:`stillhere.wire.ids.id_fault`."""

PAGE = 100
PAGE_MOST = 1000
REASON_CHARACTERS = 100

ID_SCHEMA: dict[str, Any] = {"minLength": 1, "maxLength": ID_BYTES, "pattern": NO_CONTROLS}

Id = Annotated[str, Meta(extra_json_schema=ID_SCHEMA)]
Bound = Annotated[str, Meta(extra_json_schema={"maxLength": ID_BYTES, "pattern": NO_CONTROLS})]
At = Annotated[int, Meta(description="Milliseconds since the Unix epoch.")]
ShownStatus = Literal["online", "away", "busy", "offline"]
AnyStatus = Literal["online", "away", "busy", "offline", "unknown"]


class Taken(msgspec.Struct, rename="camel", frozen=True):
    """What is taken; fields that it does not know are ignored, as everywhere in the protocol."""


class Told(msgspec.Struct, rename="camel", frozen=True):
    """What is answered."""


# -- users ---------------------------------------------------------------------------------------------------------


class QueryUsers(Taken, frozen=True):
    """Whom a query is about."""

    users: Annotated[list[Id], Meta(description="Each is answered once, in this order.")]


class PresenceList(Told, frozen=True):
    """The answer to a query."""

    users: list[UserPresence]
    complete: Annotated[bool, Meta(description="False where an entry is `unknown`.")]


class UsersQuery(Taken, frozen=True):
    """Which users a page holds."""

    status: Annotated[ShownStatus, Meta(description="Only users who are shown like this.")] | UnsetType = UNSET
    prefix: Annotated[Bound, Meta(description="Only users whose id begins with this.")] = ""
    cursor: Annotated[Bound, Meta(description="The `cursor` of the page before; none for the first.")] = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_MOST, description="How many users at most.")] = PAGE


class PresencePage(Told, frozen=True):
    """Some of the known users, in the order of their ids."""

    users: list[UserPresence]
    cursor: Annotated[str | None, Meta(description="Ask on with this; null at the end.")]


class Disconnect(Taken, frozen=True):
    """Why a user is disconnected."""

    reason: Annotated[
        str,
        Meta(
            max_length=REASON_CHARACTERS,
            description="Stands in the close frame, cut to the 123 bytes that fit there.",
            extra_json_schema={"pattern": NO_CONTROLS},
        ),
    ] = ""


class Disconnected(Told, frozen=True):
    """Whom it hit."""

    user: str
    disconnected: Annotated[int, Meta(description="How many connections were closed with 4004.")]


# -- diagnostics ---------------------------------------------------------------------------------------------------


class ConnectionInfo(Told, frozen=True):
    """One connection."""

    connection_key: Annotated[str, Meta(description="`user:session:openedAt:connectionId`, redacted.")]
    ready_state: Annotated[
        Literal["CONNECTING", "OPEN", "CLOSING"], Meta(description="OPEN and CLOSING count as active.")
    ]
    opened_at: At
    last_heard_at: Annotated[
        int | None, Meta(description="To within a quarter of a second; null for a connection of another node.")
    ]
    node: str
    tab: str
    client: Annotated[str, Meta(description="The software, as it named itself.")]
    availability: Literal["active", "busy", "away", "invisible"]
    cause: Annotated[str, Meta(description="Why it is closing.")] | UnsetType = UNSET


class GraceInfo(Told, frozen=True):
    """The grace window that a user without an active connection is in."""

    cause: Annotated[str, Meta(description="Why the last active connection ended.")]
    started_at: At
    window_ms: int
    deadline: Annotated[int, Meta(description="When it runs out, milliseconds since the Unix epoch.")]


class LastTransition(Told, frozen=True):
    """The last change that watchers were shown."""

    type: Literal["PRESENCE_ONLINE", "PRESENCE_OFFLINE", "PRESENCE_UPDATED"]
    at: At
    cause: str


class Diagnostics(Told, frozen=True):
    """All that is known of a user at this moment. Reading it changes nothing."""

    user: str
    online: Annotated[
        bool, Meta(description="True exactly when activeConnectionCount is above 0 or a grace window is running.")
    ]
    status: Annotated[AnyStatus, Meta(description="As shown to watchers.")]
    active_connection_count: int
    connection_keys: Annotated[list[str], Meta(description="Of the active connections, redacted.")]
    connections: Annotated[
        list[ConnectionInfo], Meta(description="The active ones, and upgrades that are under way (CONNECTING).")
    ]
    grace: GraceInfo | None
    epoch: str
    version: int
    last_transition: Annotated[
        LastTransition | None, Meta(description="Null where the user never was shown, or it is no longer recorded.")
    ]
    complete: Annotated[bool, Meta(description="False where the store could not be asked.")]


# -- rooms and nodes -----------------------------------------------------------------------------------------------


class RoomsQuery(Taken, frozen=True):
    """Which rooms a page holds."""

    cursor: Annotated[Bound, Meta(description="The `cursor` of the page before; none for the first.")] = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_MOST, description="How many rooms at most.")] = PAGE


class RoomCount(Told, frozen=True):
    """A room, and how many are in it."""

    room: str
    members: int


class RoomPage(Told, frozen=True):
    """Some of the rooms, in the order of their names."""

    rooms: list[RoomCount]
    cursor: Annotated[str | None, Meta(description="Ask on with this; null at the end.")]


class RoomQuery(Taken, frozen=True):
    """Which members of a room are told, where not all of them are wanted."""

    cursor: Annotated[Bound, Meta(description="The `cursor` of the page before; none for the first.")] = ""
    limit: (
        Annotated[int, Meta(ge=1, le=PAGE_MOST, description="How many members at most; 100 where there is a cursor.")]
        | UnsetType
    ) = UNSET


class RoomMembers(Told, frozen=True):
    """Who is in a room."""

    room: str
    epoch: str
    count: int
    members: (
        Annotated[
            list[Member],
            Meta(
                description="Absent in a room of more than `rooms.count_only_above` members, if no page is asked for."
            ),
        ]
        | UnsetType
    ) = UNSET
    statuses: (
        Annotated[dict[str, int], Meta(description="How many have each status; where not all members are told.")]
        | UnsetType
    ) = UNSET
    cursor: Annotated[str | None, Meta(description="Of a page: ask on with this; null at the end.")] | UnsetType = UNSET


class NodeInfo(Told, frozen=True):
    """A server process."""

    node: str
    incarnation: str
    started_at: At
    connections: int
    users: Annotated[int, Meta(description="Users with something on this node.")]
    lease_ms: Annotated[int, Meta(description="After so long without a sign of life it counts as dead.")]
    ready: bool
    draining: bool
    isolated: Annotated[
        bool,
        Meta(
            description="Others reach the store and this node does not: its clients are moved to them. "
            "A node tells so of itself only."
        ),
    ]


class Nodes(Told, frozen=True):
    """The nodes of the installation."""

    nodes: list[NodeInfo]


class Draining(Told, frozen=True):
    """The drain has begun."""

    node: str
    connections: Annotated[int, Meta(description="How many there were when it was asked for.")]
    drain_ms: Annotated[int, Meta(description="Over how long their closes are spread.")]


# -- events --------------------------------------------------------------------------------------------------------


class EventsQuery(Taken, frozen=True):
    """Which events are told; every filter that is given must let an event pass."""

    user: Annotated[list[Id], Meta(description="Only of these users.")] = []
    room: Annotated[list[Id], Meta(description="Only in these rooms.")] = []
    types: Annotated[list[Change], Meta(description="Only these changes.")] = []
    after: Annotated[
        str,
        Meta(
            description="Begin after this cursor, where there is no Last-Event-ID; without either, begin now.",
            extra_json_schema={"pattern": "^[0-9]{1,19}-[0-9]{1,19}$", "examples": ["1831872000000512-42"]},
        ),
    ] = ""


class EventData(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """The `data` of an event; its `id` is the cursor, its `event` the change."""

    user: str
    change: str
    version: int
    epoch: str
    at: int
    cause: str
    room: str | None = None
    presence: UserPresence | None = None
    member: Member | None = None


class GapData(Told, frozen=True):
    """The log no longer reaches back to where the reader was."""

    cursor: str


class ByeData(Told, frozen=True):
    """The stream ends; resume it on another connection."""

    reason: Literal["draining", "expired"]


# -- service -------------------------------------------------------------------------------------------------------


class Health(Told, frozen=True):
    """All is well."""

    status: str


class Login(Taken, frozen=True):
    """As whom to log in."""

    user: Id


class Token(Told, frozen=True):
    """A token."""

    token: str
    expires_at: At


class Drop(Taken, frozen=True):
    """Which connection's network is to break."""

    connection_id: Annotated[str, Meta(min_length=1, max_length=64)]


class Dropped(Told, frozen=True):
    """Whether it was there."""

    dropped: bool
