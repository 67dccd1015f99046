"""The words of the project: identifiers, states and causes.

Every other module, the wire, the logs and the pages use exactly these; ``docs/glossary.md`` says what they mean.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

UserId = NewType("UserId", str)
"""Who is present: the ``sub`` of the token. 1 to 256 bytes of UTF-8 without control characters."""

RoomName = NewType("RoomName", str)
"""A named place. Same alphabet as a user id."""

SessionId = NewType("SessionId", str)
"""One log-in of a user (``sid``); survives reconnects."""

TabId = NewType("TabId", str)
"""One client instance: a browser tab across its reloads, an app install."""

ConnectionId = NewType("ConnectionId", str)
"""One WebSocket. Never reused, never changed."""

Incarnation = NewType("Incarnation", str)
"""One run of a node: its name and 64 random bits, new at each start."""


class ReadyState(StrEnum):
    """How far a connection has come; the names are those of the browser's ``WebSocket.readyState``."""

    CONNECTING = "CONNECTING"
    OPEN = "OPEN"
    CLOSING = "CLOSING"
    CLOSED = "CLOSED"

    @property
    def active(self) -> bool:
        """Whether a connection in this state makes its user present: OPEN or CLOSING."""
        return self is ReadyState.OPEN or self is ReadyState.CLOSING


class Cause(StrEnum):
    """Why a connection ended. Each has a grace window of its own (``stillhere.core.grace``)."""

    BYE = "bye"
    KICKED = "kicked"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    CLIENT_CLOSE = "client_close"
    GOING_AWAY = "going_away"
    PAGE_HIDDEN = "page_hidden"
    ABNORMAL = "abnormal"
    HEARTBEAT_LOST = "heartbeat_lost"
    EXPIRED = "expired"
    SLOW_CONSUMER = "slow_consumer"
    PROTOCOL_ERROR = "protocol_error"
    NODE_DRAIN = "node_drain"
    NODE_LOST = "node_lost"


FINAL_CAUSES = frozenset({Cause.BYE, Cause.KICKED, Cause.REVOKED, Cause.SUPERSEDED})
"""Causes that leave no window whatever the configuration says: the departure itself is the message."""


class Availability(StrEnum):
    """What a connection says of itself."""

    ACTIVE = "active"
    BUSY = "busy"
    AWAY = "away"
    INVISIBLE = "invisible"


class Status(StrEnum):
    """What watchers are shown of a user."""

    ONLINE = "online"
    AWAY = "away"
    BUSY = "busy"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class Phase(StrEnum):
    """The state of a presence key, for the whole installation."""

    OFFLINE = "OFFLINE"
    ONLINE = "ONLINE"
    HELD = "HELD"
