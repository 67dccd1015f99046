"""The shape of a token (JWS compact form, RFC 7515), and what can be wrong with one.

AuthError               nobody is let in; ``code`` is the protocol's, ``message`` never holds the token
├── TokenMalformed      it is not a token
├── TokenForged         its signature, algorithm or key is not one that this server accepts
├── TokenExpired        its time is over
├── TokenTooEarly       its time has not come
├── ClaimRefused        a claim is missing or wrong
└── KeysUnavailable     the issuer's keys cannot be had at the moment: try again
"""

from __future__ import annotations

import binascii
from functools import lru_cache
from typing import Any

import msgspec

TOKEN_BYTES = 8192
"""Longest token: more than any header that a proxy lets through."""
_SHORT = 512
"""Bytes of a header that is remembered."""
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")


class AuthError(Exception):
    """Nobody is let in.

    Attributes:
        code: the protocol's error code, ``unauthorized`` or ``unavailable``.
        message: what was wrong; never holds the token or a part of it that its sender did not mean to be read.
    """

    code = "unauthorized"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class TokenMalformed(AuthError):
    """It is not a token."""


class TokenForged(AuthError):
    """Its signature, algorithm or key is not one that this server accepts."""


class TokenExpired(AuthError):
    """Its time is over."""


class TokenTooEarly(AuthError):
    """Its time has not come."""


class ClaimRefused(AuthError):
    """A claim is missing or wrong."""


class KeysUnavailable(AuthError):
    """The issuer's keys cannot be had at the moment."""

    code = "unavailable"


class Header(msgspec.Struct, frozen=True):
    """What counts of a JOSE header. ``jku``, ``x5u``, ``jwk`` and ``x5c`` are not even read."""

    alg: str
    kid: str | None = None
    typ: str | None = None
    crit: Any = msgspec.UNSET
    """Whatever it is, also null: that it is there refuses the token."""
    b64: bool = True


_header_decoder = msgspec.json.Decoder(Header)


class Parts(msgspec.Struct, frozen=True):
    """A token taken apart; nothing of it is believed yet."""

    header: Header
    payload: bytes
    signed: bytes
    signature: bytes

    @classmethod
    def of(cls, token: str | bytes) -> Parts:
        try:
            raw = token.encode("ascii") if isinstance(token, str) else token
        except UnicodeEncodeError:
            raise TokenMalformed("the token is not ASCII; a token is three parts of base64url joined by dots") from None
        if not raw:
            raise TokenMalformed("the token is empty")
        if len(raw) > TOKEN_BYTES:
            raise TokenMalformed(f"the token has {len(raw)} bytes; it may have {TOKEN_BYTES}")
        if raw.translate(None, _ALPHABET) != b"..":
            raise TokenMalformed("the token is not three parts of base64url joined by dots")
        signed, _, signature = raw.rpartition(b".")
        head, _, payload = signed.partition(b".")
        header = _known_header(head) if len(head) <= _SHORT else _read_header(head)
        return cls(header, _unbase64(payload), signed, _unbase64(signature))


def _read_header(head: bytes) -> Header:
    try:
        return _header_decoder.decode(_unbase64(head))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise TokenMalformed("the token's header is not a JSON object with an alg") from None


_known_header = lru_cache(maxsize=64)(_read_header)  # all tokens of an issuer begin alike, and it holds no secret


def _unbase64(part: bytes) -> bytes:
    try:
        return binascii.a2b_base64(part.translate(_TO_BASE64) + b"=" * (-len(part) % 4), strict_mode=True)
    except binascii.Error:
        raise TokenMalformed("a part of the token is not base64url") from None
