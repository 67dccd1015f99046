"""The calls of the HTTP API as data, and the rules by which they are sent again; no network here."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from stillhere import __version__
from stillhere.client.answers import (
    Diagnostics,
    Disconnected,
    Draining,
    Nodes,
    PresenceList,
    PresencePage,
    RoomMembers,
    RoomPage,
    Stats,
)
from stillhere.client.errors import (
    ApiError,
    BadAddress,
    BadCall,
    BadCredentials,
    BadId,
    NotAllowed,
    NotFound,
    StrangeAnswer,
    Unavailable,
)
from stillhere.client.protocol import checked_token
from stillhere.client.wants import checked_id
from stillhere.wire.messages import UserPresence

T = TypeVar("T")

AGAIN = (0.2, 2.0)
"""The first and the longest wait between two tries, in seconds."""

PATIENCE = 5.0
"""The longest ``Retry-After`` that is waited for, in seconds; where the server wants more, the call fails."""

PASSING = frozenset({429, 502, 503, 504})
"""Statuses after which a call that may be repeated is."""

_DETAIL = 300

_KINDS: dict[int, type[ApiError]] = {401: BadCredentials, 403: NotAllowed, 404: NotFound}


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call.

    Attributes:
        path: percent-encoded.
        answer: the type of what is answered.
        params: of the query; a name may come several times.
        body: JSON, or None.
        repeatable: whether sending it twice does what sending it once does.
    """

    method: str
    path: str
    answer: type[T]
    params: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    repeatable: bool = True


def user(user: str) -> Call[UserPresence]:
    """How a user is shown."""
    return Call("GET", f"/v1/users/{_segment('the user id', user)}", UserPresence)


def query(users: Iterable[str]) -> Call[PresenceList]:
    """How several users are shown."""
    if isinstance(users, str):
        raise BadId("users is one text; query takes several ids")
    ids = [checked_id("the user id", one) for one in users]
    return Call("POST", "/v1/users/query", PresenceList, body=msgspec.json.encode({"users": ids}))


def users(status: str | None, prefix: str, cursor: str, limit: int) -> Call[PresencePage]:
    """A page of the known users."""
    params = [("status", status or ""), ("prefix", prefix), ("cursor", cursor), ("limit", str(limit))]
    return Call("GET", "/v1/users", PresencePage, tuple(pair for pair in params if pair[1]))


def diagnostics(user: str) -> Call[Diagnostics]:
    """All that is known of a user."""
    return Call("GET", f"/v1/users/{_segment('the user id', user)}/diagnostics", Diagnostics)


def disconnect(user: str, reason: str) -> Call[Disconnected]:
    """Kick a user. Not repeatable: who has come back meanwhile would be kicked again."""
    body = msgspec.json.encode({"reason": reason})
    path = f"/v1/users/{_segment('the user id', user)}/disconnect"
    return Call("POST", path, Disconnected, body=body, repeatable=False)


def rooms(cursor: str, limit: int) -> Call[RoomPage]:
    """A page of the rooms that somebody is in."""
    params = [("cursor", cursor), ("limit", str(limit))]
    return Call("GET", "/v1/rooms", RoomPage, tuple(pair for pair in params if pair[1]))


def room(room: str, cursor: str = "", limit: int | None = None) -> Call[RoomMembers]:
    """Who is in a room, or a page of them."""
    params = (("cursor", cursor), ("limit", "" if limit is None else str(limit)))
    path = f"/v1/rooms/{_segment('the room name', room)}"
    return Call("GET", path, RoomMembers, tuple(pair for pair in params if pair[1]))


def nodes() -> Call[Nodes]:
    """The nodes."""
    return Call("GET", "/v1/nodes", Nodes)


def drain(node: str) -> Call[Draining]:
    """Move everybody away from a node; asking again changes nothing."""
    return Call("POST", f"/v1/nodes/{_segment('the node', node)}/drain", Draining)


def stats() -> Call[Stats]:
    """Figures of the node that answers."""
    return Call("GET", "/v1/stats", Stats)


def _segment(what: str, text: str) -> str:
    """An id as one segment of a path.

    Raises:
        BadId: it is none, or one that no path can hold.
    """
    if checked_id(what, text) in (".", ".."):
        raise BadId(f"{what} {text!r} cannot stand in a path, because clients and proxies resolve it; query() can ask")
    return quote(text, safe="")


# -- where and who -------------------------------------------------------------------------------------------------


def api_url(url: str) -> str:
    """The address of the server, without a slash at its end.

    Raises:
        BadAddress: it is none.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadAddress(f"the url {url!r} cannot be read: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise BadAddress(f"the url {url!r} begins with {parts.scheme!r}; http and https are possible")
    if not host:
        raise BadAddress(f"the url {url!r} names no host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise BadAddress("the url of the API has no password, query or fragment")
    return url.rstrip("/")


def headers(token: str | None, api_key: str | None) -> dict[str, str]:
    """What every call bears.

    Raises:
        BadToken: no header can carry the token or the key.
    """
    found = {"Accept": "application/json", "User-Agent": f"stillhere-python/{__version__}"}
    if api_key is not None:
        found["X-API-Key"] = checked_token(api_key)
    if token is not None:
        found["Authorization"] = f"Bearer {checked_token(token)}"
    return found


# -- answers -------------------------------------------------------------------------------------------------------


class _Problem(msgspec.Struct):
    """A problem document (RFC 9457), as far as it is read."""

    title: str = ""
    detail: str = ""


def read(call: Call[T], status: int, body: bytes, retry_after: float | None) -> T:
    """The answer to a call.

    Raises:
        ApiError: it is a refusal, or none of this API.
    """
    if not 200 <= status < 300:
        raise refusal(status, body, retry_after)
    try:
        return msgspec.json.decode(body, type=call.answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StrangeAnswer(f"the answer to {call.method} {call.path} is none of this API: {error}", status) from error


def refusal(status: int, body: bytes, retry_after: float | None) -> ApiError:
    """The error of an answer with another status than 2xx."""
    try:
        problem = msgspec.json.decode(body[: 64 * 1024], type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problem = _Problem()
    said = (problem.detail or problem.title)[:_DETAIL]
    text = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if status < 400:
        return StrangeAnswer(f"{text}, and no redirect is followed, because the credentials would go along", status)
    if status == 429 or status >= 500:
        return Unavailable(text, status, retry_after)
    return _KINDS.get(status, BadCall)(text, status)


def wait_before(attempt: int, error: ApiError) -> float:
    """How long to wait before a call is sent again, in seconds: what the server asks for, else with full jitter."""
    first, longest = AGAIN
    asked = getattr(error, "retry_after", None)
    jitter: float = random.random() * min(longest, first * 2.0**attempt)
    return jitter if asked is None else asked + jitter


def may_repeat(call: Call[T], error: ApiError, unsent: bool) -> bool:
    """Whether a call that failed is worth sending again, and may be.

    Args:
        call: which.
        error: how it failed.
        unsent: whether the server cannot have seen it.
    """
    if isinstance(error, Unavailable):
        in_time = error.retry_after is None or error.retry_after <= PATIENCE
        return call.repeatable and error.status in PASSING and in_time
    return unsent or (call.repeatable and error.status == 0)
