"""The machine of one connection: CONNECTING → OPEN → CLOSING → CLOSED, with the cause of its end.

The rules, in one place:

* Only OPEN and CLOSING are **active**: they make their user present. A CLOSING connection counts until it is CLOSED.
* A departure (bye, kick, revocation, supersession) is final: the connection is CLOSED at once, whatever TCP still has
  to say. Every other end goes through CLOSING or comes from the transport itself.
* The first reason for an end is its cause; what is reported later changes nothing. A departure overrules a close that
  is under way, because it is the stronger statement.
* CLOSING is bounded by ``close_timeout`` and CONNECTING by ``handshake_timeout``; the deadline is stamped on entry and
  a second close frame does not move it.
* Everything after CLOSED is accepted and ignored: close events are late and repeated in the field.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from stillhere.core.errors import LocalMisuse
from stillhere.core.words import (
    FINAL_CAUSES,
    Availability,
    Cause,
    ConnectionId,
    ReadyState,
    RoomName,
    SessionId,
    TabId,
    UserId,
)

CLOSE_PAGE_HIDDEN = 4900
"""What the SDK closes with in ``pagehide``."""


class Input(StrEnum):
    """What can happen to a connection."""

    OPENED = "opened"
    """The upgrade is granted."""
    REFUSED = "refused"
    """The upgrade failed, or its time ran out."""
    CLOSE_RECEIVED = "close frame received"
    CLOSE_SENT = "close frame sent"
    DEPARTED = "departed"
    """Bye, kick, revocation or supersession."""
    LOST = "TCP ended"
    TIMED_OUT = "close timeout"
    """CLOSING lasted for ``close_timeout``; the transport is aborted."""


_CONNECTING, _OPEN, _CLOSING, _CLOSED = ReadyState

TRANSITIONS: dict[tuple[ReadyState, Input], ReadyState] = {
    (_CONNECTING, Input.OPENED): _OPEN,
    (_CONNECTING, Input.REFUSED): _CLOSED,
    (_CONNECTING, Input.DEPARTED): _CLOSED,
    (_CONNECTING, Input.LOST): _CLOSED,
    (_OPEN, Input.CLOSE_RECEIVED): _CLOSING,
    (_OPEN, Input.CLOSE_SENT): _CLOSING,
    (_OPEN, Input.DEPARTED): _CLOSED,
    (_OPEN, Input.LOST): _CLOSED,
    (_CLOSING, Input.CLOSE_RECEIVED): _CLOSING,
    (_CLOSING, Input.CLOSE_SENT): _CLOSING,
    (_CLOSING, Input.DEPARTED): _CLOSED,
    (_CLOSING, Input.LOST): _CLOSED,
    (_CLOSING, Input.TIMED_OUT): _CLOSED,
    (_CLOSED, Input.CLOSE_RECEIVED): _CLOSED,
    (_CLOSED, Input.CLOSE_SENT): _CLOSED,
    (_CLOSED, Input.DEPARTED): _CLOSED,
    (_CLOSED, Input.REFUSED): _CLOSED,
    (_CLOSED, Input.LOST): _CLOSED,
    (_CLOSED, Input.TIMED_OUT): _CLOSED,
}
"""The whole machine. A pair that is absent is a mistake of the caller."""

_CAUSE_OF_CODE = {
    1001: Cause.GOING_AWAY,
    1002: Cause.PROTOCOL_ERROR,
    1003: Cause.PROTOCOL_ERROR,
    1007: Cause.PROTOCOL_ERROR,
    1009: Cause.PROTOCOL_ERROR,
    1010: Cause.PROTOCOL_ERROR,
    CLOSE_PAGE_HIDDEN: Cause.PAGE_HIDDEN,
}


def cause_of_close(code: int) -> Cause:
    """Which cause a close frame of the client stands for.

    Args:
        code: RFC 6455 section 7.4 status code; 1005 for a frame without one.

    Returns:
        ``going_away`` for 1001, ``page_hidden`` for 4900, ``protocol_error`` where the client says that *we* broke the
        protocol, and ``client_close`` for 1000, 1005 and every code of an application's own.
    """
    return _CAUSE_OF_CODE.get(code, Cause.CLIENT_CLOSE)


class Connection:
    """One WebSocket of a user, as its node sees it. Mutated only by :class:`stillhere.core.roster.Roster`."""

    __slots__ = (
        "availability",
        "by",
        "cause",
        "client",
        "code",
        "deadline",
        "id",
        "info",
        "meta",
        "opened_at",
        "ready",
        "reason",
        "rooms",
        "session",
        "tab",
        "user",
    )

    def __init__(
        self,
        id: ConnectionId,
        user: UserId,
        session: SessionId,
        tab: TabId,
        opened_at: float,
        *,
        info: dict[str, Any] | None = None,
        client: str = "",
        availability: Availability | None = None,
    ) -> None:
        """Start in CONNECTING.

        Args:
            opened_at: Unix time in seconds at which the authenticated upgrade began; part of the connection key.
            info: the public object of the token, shown to watchers.
            client: a short name of the software, such as ``Chrome 156``.
            availability: None until the connection states one; it then inherits its tab's.
        """
        self.id = id
        self.user = user
        self.session = session
        self.tab = tab
        self.opened_at = opened_at
        self.info: dict[str, Any] | None = info
        self.client = client
        self.availability = availability
        self.meta: dict[str, Any] | None = None
        self.rooms: dict[RoomName, dict[str, Any]] | None = None
        self.ready = ReadyState.CONNECTING
        self.cause: Cause | None = None
        self.code = 0
        self.by = ""
        """Who closed: ``client`` or ``server``; empty while nobody did."""
        self.reason = ""
        self.deadline: float | None = None

    def step(self, what: Input, cause: Cause | None = None, code: int = 0, by: str = "", reason: str = "") -> bool:
        """Move along the table.

        Args:
            what: the input.
            cause: why the connection ends; kept if it is the first one, or a departure.
            code: the close code that came with it, 0 for none.
            by: who closes.
            reason: that of the close frame.

        Returns:
            Whether the ready state changed.

        Raises:
            LocalMisuse: the pair of state and input is not in the table.
        """
        after = TRANSITIONS.get((self.ready, what))
        if after is None:
            raise LocalMisuse(f"connection {self.id} is {self.ready}: {what!s} cannot happen to it")
        if self.ready is ReadyState.CLOSED:
            return False
        if cause is not None and (self.cause is None or cause in FINAL_CAUSES):
            self.cause, self.code, self.by, self.reason = cause, code, by, reason
        changed = after is not self.ready
        self.ready = after
        return changed


def redacted_key(user: str, session: str, opened_at: float, connection: str) -> str:
    """The connection key ``user:session:openedAt:connectionId`` as it may be shown.

    Enough to tell two connections apart and to follow one through the logs, never enough to use: the opening time (in
    milliseconds) stays whole, of the ids a few characters remain.
    """
    return f"{user[:3]}…:{session[:3]}…:{round(opened_at * 1000)}:{connection[:8]}…"
