"""Everything that can go wrong for a client, as one tree; every error says what to do about it.

::

    ClientError
    ├── Misused                the calling code is wrong; nothing was sent
    │   ├── BadAddress         the url is none
    │   ├── BadId              a user id or a room name that no server takes
    │   ├── BadMeta            meta that is no JSON object
    │   ├── BadToken           a token that no header can carry
    │   └── Closed             the client was closed, or was not started
    ├── Refused                the client has stopped: trying again by itself would not help
    │   ├── NoToken            there is no token: nobody is logged in
    │   ├── Unauthorized       the token was refused, or has ended and there is no other
    │   ├── ForbiddenOrigin    the server does not serve this page, host or program
    │   ├── Kicked             an operator or the application disconnected the user
    │   ├── Superseded         another connection has become this tab
    │   ├── WrongProtocol      the server speaks another version, or the client broke the protocol
    │   └── NotStillhere       something else answers at that address
    ├── Unreachable            no answer, or not now; a :class:`~stillhere.client.live.Client` tries on by itself
    ├── TokenFailed            ``get_token`` raised; the client tries on by itself
    ├── Unreadable             a message that cannot be understood was skipped
    ├── RequestRefused         the server refused one request; the connection stays
    └── ApiError               an HTTP call did not succeed (:mod:`stillhere.client.api`)
        ├── BadCall            400, 405, 413, 415: the call is wrong
        ├── BadCredentials     401
        ├── NotAllowed         403
        ├── NotFound           404
        ├── Unavailable        429, 5xx: not now
        ├── NoAnswer           no answer came, or it broke off
        └── StrangeAnswer      the answer is none of this API
"""

from __future__ import annotations

from stillhere.core.errors import LocalMisuse, RemoteFault, StillhereError


class ClientError(StillhereError):
    """Root of all errors of this package.

    Attributes:
        message: what was wrong, with the value.
        code: one word for programs; the TypeScript client uses the same.
        advice: what to do about it, as a sentence.
    """

    code: str = "client"
    advice: str = ""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return f"{self.message.rstrip('.')}. {self.advice}" if self.advice else self.message


class Misused(ClientError, LocalMisuse):
    """The calling code is wrong; nothing was sent."""


class BadAddress(Misused, ValueError):
    """The url is none that a client can use."""

    code = "bad_url"
    advice = "Give the server's address, such as https://example.com or wss://example.com/ws."


class BadId(Misused, ValueError):
    """A user id or a room name that no server takes."""

    code = "bad_id"
    advice = "Ids have 1 to 256 bytes of UTF-8 and no control characters."


class BadMeta(Misused, ValueError):
    """``meta`` that is no JSON object."""

    code = "bad_meta"
    advice = "Meta is a dict of JSON values with text as keys, at most 2 KiB."


class BadToken(Misused, ValueError):
    """A token or a key that no header can carry."""

    code = "bad_token"
    advice = "A token is one line of ASCII characters without spaces."


class Closed(Misused):
    """The client was closed, or was not started."""

    code = "closed"
    advice = "Use it inside `async with`, or after connect()."


class Refused(ClientError, RemoteFault):
    """The client has stopped: the server asked not to come back, or coming back cannot help.

    Attributes:
        close_code: of the WebSocket, where one was received.
    """

    code = "refused"
    advice = "Call connect() again when the reason is gone."

    def __init__(self, message: str, close_code: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code


class NoToken(Refused):
    """There is no token: nobody is logged in."""

    code = "no_token"
    advice = "Log in, and let get_token return the token."


class Unauthorized(Refused):
    """The token was refused, or has ended and there is no other."""

    code = "unauthorized"
    advice = "Get a new token; with get_token= the client does so by itself before one ends."


class ForbiddenOrigin(Refused):
    """The server does not serve this page, host or program."""

    code = "forbidden_origin"
    advice = "Look at origins.allowed and origins.hosts of the server, and at what stands in front of it."


class Kicked(Refused):
    """An operator or the application disconnected the user."""

    code = "kicked"
    advice = "Connect again only if the user asks for it."


class Superseded(Refused):
    """Another connection has become this tab."""

    code = "superseded"
    advice = "Give each client a tab id of its own, or none."


class WrongProtocol(Refused):
    """The server speaks another version of the protocol, or says that this client broke it."""

    code = "protocol"
    advice = "Bring the client and the server to versions that go together."


class NotStillhere(Refused):
    """Something answers at that address, but not this kind of server."""

    code = "not_stillhere"
    advice = "Check host, port and path of the url (the socket is at /ws), and what a proxy in front makes of it."


class Unreachable(ClientError, RemoteFault):
    """No answer, or not now."""

    code = "unreachable"
    advice = "Check the url and the network, and that the server runs."


class TokenFailed(ClientError):
    """``get_token`` raised; the reason is the cause."""

    code = "token_failed"
    advice = "The client tries again by itself; see the cause."


class Unreadable(ClientError, RemoteFault):
    """A message of the server that cannot be understood was skipped."""

    code = "protocol"
    advice = "Bring the client and the server to versions that go together."


class RequestRefused(ClientError, RemoteFault):
    """The server refused one request; the connection stays.

    Attributes:
        code: the server's: ``forbidden``, ``too_many``, ``too_large``, ``bad_request``, …
        request: what was asked for: ``watch``, ``join``, …; empty where the server did not say of which it speaks.
        room: the room that a refused ``join`` or ``leave`` was about.
    """

    def __init__(self, code: str, message: str, request: str = "", room: str | None = None) -> None:
        super().__init__(f"{request}: {message}" if request else message)
        self.code = code
        self.request = request
        self.room = room


class ApiError(ClientError, RemoteFault):
    """An HTTP call did not succeed.

    Attributes:
        status: of the answer; 0 where none came.
    """

    code = "api"

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class BadCall(ApiError):
    """The server says that the call is wrong."""

    code = "bad_request"


class BadCredentials(ApiError):
    """The server knows neither the token nor the key."""

    code = "unauthorized"
    advice = "Give token= with a token of scope read or admin, or api_key= with one of admin.api_keys."


class NotAllowed(ApiError):
    """The credentials do not suffice."""

    code = "forbidden"
    advice = "Calls that change something need the scope admin, or an API key."


class NotFound(ApiError):
    """There is no such thing."""

    code = "not_found"
    advice = "Check what was asked for, and that the url is that of the server (without /v1)."


class Unavailable(ApiError):
    """Not now: the store is out of reach, the node drains, or there are too many calls.

    Attributes:
        retry_after: after how many seconds the server wants to be asked again, where it said so.
    """

    code = "unavailable"
    advice = "Try again later."

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message, status)
        self.retry_after = retry_after


class NoAnswer(ApiError):
    """No answer came, or it broke off; whether the call had an effect is not known."""

    code = "unreachable"
    advice = "Check the url and the network, and that the server runs."


class StrangeAnswer(ApiError):
    """The answer is none of this API."""

    code = "not_stillhere"
    advice = "Check host, port and path of the url, and what a proxy in front makes of it."


REFUSALS: dict[int, type[Refused]] = {
    4000: WrongProtocol,
    4001: Unauthorized,
    4003: ForbiddenOrigin,
    4004: Kicked,
    4005: Superseded,
}
"""Close codes that say: do not reconnect (``docs/protocol.md``, section 1.4)."""


def refusal(close_code: int, reason: str) -> Refused:
    """The error of a close that says: do not reconnect.

    Args:
        close_code: 4000 to 4099.
        reason: what the server said; may be empty.
    """
    kind = REFUSALS.get(close_code, Refused)
    return kind(reason or f"the server closed with {close_code}", close_code)
