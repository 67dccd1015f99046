"""Between bytes and what the machine knows: the server's messages, its address, and when a token ends."""

from __future__ import annotations

import base64
import binascii
from functools import reduce
from operator import or_
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from stillhere.client.errors import BadAddress, BadToken, Unreadable
from stillhere.wire.messages import SERVER_MESSAGES, ClientMessage, ServerMessage

SUBPROTOCOL: Final = "stillhere.v1"
"""What this client speaks, and nothing else."""

_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(reduce(or_, SERVER_MESSAGES))
_TAGS = frozenset(str(kind.__struct_config__.tag) for kind in SERVER_MESSAGES)


class _Kind(msgspec.Struct):
    type: str


class _Claims(msgspec.Struct):
    exp: float


def decode(data: bytes | str) -> ServerMessage | None:
    """Read a message of the server.

    Returns:
        The message; None for one of a type that this version does not know, which a reader skips.

    Raises:
        Unreadable: it is no message.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError) and _is_of_another_time(data):
            return None
        raise Unreadable(f"the server sent what cannot be read: {str(error)[:200]}") from error


def _is_of_another_time(data: bytes | str) -> bool:
    try:
        return msgspec.json.decode(data, type=_Kind).type not in _TAGS
    except msgspec.DecodeError:
        return False


def encode(message: ClientMessage) -> bytes:
    """Write a message; fields that say nothing are left out."""
    fields: dict[str, Any] = msgspec.to_builtins(message)
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def expiry_of(token: str) -> float | None:
    """The ``exp`` of a JWT, in Unix seconds by the server's clock; None if it cannot be read.

    The signature is the server's affair: this only plans when to ask for the next token.
    """
    try:
        payload = token.split(".")[1]
        decoded = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        return msgspec.json.decode(decoded, type=_Claims).exp
    except (IndexError, binascii.Error, ValueError):
        return None


def checked_token(token: object) -> str:
    """A token or a key, without the spaces and line ends around it.

    Raises:
        BadToken: no header can carry it; the message does not show it.
    """
    if not isinstance(token, str):
        raise BadToken(f"the token is {type(token).__name__}")
    text = token.strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise BadToken("the token is empty" if not text else "the token holds characters that no header can carry")
    return text


def socket_url(url: str) -> str:
    """The address of the server's socket.

    Args:
        url: ``ws://``, ``wss://``, ``http://`` or ``https://``; without a path, ``/ws`` is meant.

    Raises:
        BadAddress: it is none.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadAddress(f"the url {url!r} cannot be read: {error}") from None
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss"):
        raise BadAddress(f"the url {url!r} begins with {parts.scheme!r}; ws, wss, http and https are possible")
    if not host:
        raise BadAddress(f"the url {url!r} names no host")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise BadAddress("the url holds a password; what proves who you are is the token")
    if parts.fragment:
        raise BadAddress(f"the url {url!r} has a fragment, which no socket has")
    path = parts.path if parts.path not in ("", "/") else "/ws"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def with_query(url: str, tab: str, availability: str) -> str:
    """The address of one connection: ``probe=1``, because every probe is answered."""
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}probe=1&availability={quote(availability)}&tab={quote(tab, safe='')}"
