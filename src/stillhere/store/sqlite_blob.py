"""Structs as bytes and back: MessagePack, or JSON for the few that MessagePack cannot hold.

An integer in somebody's metadata may be of any size; MessagePack ends at 64 bits. All our structs are arrays, so the
first byte tells the two apart: ``[`` begins JSON, and no array of MessagePack.
"""

from __future__ import annotations

import logging
from typing import Any, Generic, TypeVar

import msgspec

_log = logging.getLogger("stillhere")

_msgpack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()

T = TypeVar("T")


def encode(struct: msgspec.Struct) -> bytes | None:
    """The bytes of a struct; None, and a line in the log, for one that has none.

    One such record must not keep all others from the file. Only text that is no Unicode (half of a surrogate pair) is
    known to have none, and the wire refuses it.
    """
    try:
        return _msgpack.encode(struct)
    except (OverflowError, ValueError, TypeError, RecursionError):
        try:
            return _json.encode(struct)
        except (OverflowError, ValueError, TypeError, RecursionError) as error:
            _log.error("a %s cannot be written down and is not kept: %s", type(struct).__name__, error)
            return None


class Decoder(Generic[T]):
    """Reads what :func:`encode` wrote of one type."""

    def __init__(self, type_: Any) -> None:
        """Take a type, or a union of tagged ones."""
        self._msgpack: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(type_)
        self._json: msgspec.json.Decoder[T] = msgspec.json.Decoder(type_)

    def __call__(self, blob: bytes) -> T:
        """Read one.

        Raises:
            msgspec.DecodeError: it is not what it should be.
        """
        return self._json.decode(blob) if blob.startswith(b"[") else self._msgpack.decode(blob)
