"""Signatures as in Standard Webhooks: HMAC-SHA256 over ``id.timestamp.body``.

https://www.standardwebhooks.com, specification 1.0.0, "Signature scheme".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
KEY_BYTES = (24, 64)
"""Least and greatest length of a key, as the specification recommends."""

_PLAIN_BYTES = 32


def keys_of(secret: str) -> tuple[bytes, ...]:
    """The keys that a secret stands for.

    Args:
        secret: ``whsec_`` and base64; several, with blanks between them, while one is being replaced by another. Any
            other text is a key by its UTF-8 bytes.

    Raises:
        ValueError: with what is wrong and what would be right; the secret is not in it.
    """
    if not secret.startswith(PREFIX):
        size = len(secret.encode())
        if size < _PLAIN_BYTES:
            raise ValueError(f"has {size} bytes; it needs at least {_PLAIN_BYTES}, or {PREFIX} and base64")
        return (secret.encode(),)
    return tuple(_key(part) for part in secret.split())


def sign(id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> str:
    """The value of ``webhook-signature``: one signature for each key.

    Args:
        id: of the message.
        timestamp: of this attempt, Unix seconds.
        body: exactly the bytes that are sent.
        keys: from :func:`keys_of`.
    """
    signed = b"%s.%d.%s" % (id.encode(), timestamp, body)
    digests = (hmac.digest(key, signed, hashlib.sha256) for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def _key(text: str) -> bytes:
    least, most = KEY_BYTES
    right = f"{PREFIX} is followed by the base64 of {least} to {most} random bytes"
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else b""
    except (binascii.Error, ValueError):
        # "from None": the error of the decoder may quote the secret
        raise ValueError(f"is not base64; {right}") from None
    if not least <= len(key) <= most:
        raise ValueError(f"holds a key of {len(key)} bytes; {right}")
    return key
