"""The messages, as types. Field names are camelCase on the wire; a reader ignores fields that it does not know."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from stillhere.core.words import Availability

RequestId = int | str | None
"""Chosen by the client and echoed; a string has at most 64 characters."""


class ClientMessage(msgspec.Struct, tag_field="type", rename="camel", frozen=True):
    """Anything a client may send."""


class Auth(ClientMessage, tag="auth", frozen=True):
    """Authenticate, or renew."""

    token: str
    id: RequestId = None


class Watch(ClientMessage, tag="watch", frozen=True):
    """Follow users; answered by ``snapshot``."""

    users: list[str]
    id: RequestId = None


class Unwatch(ClientMessage, tag="unwatch", frozen=True):
    """Stop following."""

    users: list[str]
    id: RequestId = None


class Query(ClientMessage, tag="query", frozen=True):
    """One answer, no following."""

    users: list[str]
    id: RequestId = None


class Join(ClientMessage, tag="join", frozen=True):
    """Be present in a room and follow it."""

    room: str
    meta: dict[str, Any] = {}
    id: RequestId = None


class Leave(ClientMessage, tag="leave", frozen=True):
    """Leave a room now, without a window."""

    room: str
    id: RequestId = None


PAGE, PAGE_MOST = 100, 1000
"""How many members a page of a room has, if nothing is said, and at most."""


class Page(ClientMessage, tag="page", frozen=True):
    """Read some members of a large room that this connection is in, in the order of their ids; answered by ``room``."""

    room: str
    cursor: str = ""
    """That of the page before; none for the first."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MOST)] = PAGE
    id: RequestId = None


class State(ClientMessage, tag="state", frozen=True):
    """This connection's own state; ``meta`` is merged shallowly, null deletes a key."""

    availability: Availability | None = None
    meta: dict[str, Any] | None = None
    id: RequestId = None


class Bye(ClientMessage, tag="bye", frozen=True):
    """Explicit departure (log-out)."""

    id: RequestId = None


class Ping(ClientMessage, tag="ping", frozen=True):
    """For clients that cannot see protocol pings; answered by ``pong``."""

    id: RequestId = None


class Probe(ClientMessage, tag="probe", frozen=True):
    """The answer to the server's probe, sent from the page's message handler."""

    n: int


Request = Auth | Watch | Unwatch | Query | Join | Leave | Page | State | Bye | Ping | Probe

META_DEPTH = 32
"""How deep ``meta`` may be nested, itself included: it is encoded again in places that stand on a deeper stack."""

_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


class BadMessage(ValueError):
    """A message that cannot be understood; the text says where and why."""


def decode(message: bytes) -> Request:
    """Read a client's message.

    Args:
        message: UTF-8 JSON.

    Raises:
        BadMessage: malformed JSON, an unknown ``type``, a missing field, a wrong type, too deep, a number that not
            every store can hold.
    """
    try:
        request = _decoder.decode(message)
    except msgspec.ValidationError as error:
        raise BadMessage(f"not a valid message: {_short(error)}") from None
    except msgspec.DecodeError as error:
        raise BadMessage(f"not JSON: {_short(error)}") from None
    except UnicodeDecodeError as error:
        raise BadMessage(f"not UTF-8: {error.reason}") from None
    except RecursionError:
        raise BadMessage("nested too deeply") from None
    if isinstance(request, Join | State) and request.meta:
        _check_meta(request.meta)
    return request


def _short(error: Exception) -> str:
    """What msgspec says repeats the value, however long it is."""
    text = str(error)
    return text if len(text) <= 160 else f"{text[:100]}…{text[-50:]}"


def _check_meta(meta: dict[str, Any]) -> None:
    """Refuse what can be read here but not be kept everywhere: very deep nesting, integers of more than 64 bits."""
    level: list[Any] = [meta]
    depth = 0
    while level:
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict | list):
                if depth == META_DEPTH:
                    raise BadMessage(f"meta is nested more than {META_DEPTH} levels deep")
                inner += value.values() if isinstance(value, dict) else value
            elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
                raise BadMessage("meta holds an integer of more than 64 bits")
        level = inner
        depth += 1


class ServerMessage(msgspec.Struct, tag_field="type", rename="camel", omit_defaults=True, frozen=True):
    """Anything the server may send."""


class UserPresence(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """What is shown of a user; ``protocol.md`` section 1.3. Times in ms."""

    user: str
    status: str
    epoch: str
    version: int
    changed_at: int
    last_seen_at: int | None = None
    devices: int | None = None
    """How many tabs and devices have an active connection; only in the HTTP API."""
    info: dict[str, Any] | None = None
    meta: dict[str, Any] | None = None


class MemberMeta(msgspec.Struct, rename="camel", frozen=True):
    """What one connection says of itself in a room."""

    connection_id: str
    meta: dict[str, Any]


class Member(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """A user in a room. Of one who left, only the first four fields are sent."""

    user: str
    status: str
    epoch: str
    version: int
    joined_at: int | None = None
    info: dict[str, Any] | None = None
    metas: list[MemberMeta] | None = None


class WelcomeMessage(ServerMessage, tag="welcome", frozen=True):
    """First message after authentication."""

    connection_id: str
    session_id: str
    user: str
    epoch: str
    node: str
    heartbeat_ms: int
    server_at: int
    expires_at: int
    """When the token ends; renew it with ``auth`` before."""


class Snapshot(ServerMessage, tag="snapshot", frozen=True):
    """Answer to ``watch`` and ``query``."""

    users: list[UserPresence]
    complete: bool
    id: RequestId = None


class Presence(ServerMessage, tag="presence", frozen=True):
    """One or more users changed; at most one entry per user, the newest."""

    changes: list[UserPresence]


class Room(ServerMessage, tag="room", frozen=True):
    """A room's state (``members``) or a change of it: apply leaves, then joins, then updates.

    Of a large room, ``count`` in place of all that.
    """

    room: str
    id: RequestId = None
    members: list[Member] | None = None
    joins: list[Member] | None = None
    leaves: list[Member] | None = None
    updates: list[Member] | None = None
    count: int | None = None
    """How many are in it. No message has both this and ``members``: whichever came last holds."""
    statuses: dict[str, int] | None = None
    """And how many of them have each status."""
    page: list[Member] | None = None
    """Some of them, by id, in the answer to ``join`` and ``page``."""
    cursor: str | None = None
    """Ask on with this; absent at the end."""


class Ok(ServerMessage, tag="ok", frozen=True):
    """Done."""

    id: RequestId = None


class Pong(ServerMessage, tag="pong", frozen=True):
    """Answer to ``ping``."""

    id: RequestId = None


class ServerProbe(ServerMessage, tag="probe", frozen=True):
    """Is the page alive?"""

    n: int


class Error(ServerMessage, tag="error", frozen=True):
    """The request was refused; the connection stays unless a close follows."""

    code: str
    message: str
    id: RequestId = None


class Moving(ServerMessage, tag="moving", frozen=True):
    """This node is draining."""

    reconnect_in_ms: int


SERVER_MESSAGES: tuple[type[ServerMessage], ...] = (
    WelcomeMessage,
    Snapshot,
    Presence,
    Room,
    Ok,
    Pong,
    ServerProbe,
    Error,
    Moving,
)

_encoder = msgspec.json.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """Write a message, or a part of one, as UTF-8 JSON."""
    return _encoder.encode(message)
