"""The frames of RFC 6455, section 5: what a client sends is taken apart, what a server sends is put together."""

from __future__ import annotations

from collections.abc import Iterator

from stillhere.transport.message_layer import CLOSE, CONTINUATION, PROTOCOL_ERROR, TEXT, TOO_BIG, Violation

FIN = 0x80
RESERVED = 0x70
OPCODE = 0x0F
MASKED = 0x80

_CONTROL = 0x08
_CONTROL_BYTES = 125
_KNOWN = frozenset({CONTINUATION, TEXT, 2, CLOSE, 9, 10})


class Reader:
    """The frames of one client, in whatever pieces they come. Needed only while a frame has not come whole.

    Args:
        max_bytes: bound of a frame's payload.
    """

    __slots__ = ("_max_bytes", "_need", "_rest")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._need = 0

    def __bool__(self) -> bool:
        """Whether it holds the beginning of a frame."""
        return bool(self._rest)

    def frames(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take what was read; give the first byte and the payload, unmasked, of each frame that is whole.

        Raises:
            Violation: 1002 for a frame that no client may send, 1009 for one above the bound; both as soon as its head
                is there.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:  # whoever sends byte by byte costs no more than an append each
                return
            data, self._rest = bytes(self._rest), bytearray()
        at, end = 0, len(data)
        while True:
            if end - at < 2:
                self._need = 2
                break
            first, second = data[at], data[at + 1]
            size, body = second & 127, at + 6
            self._check(first, second, size)
            if size >= 126:
                body += 2 if size == 126 else 8
                if end < body:
                    self._need = body - at
                    break
                least = 126 if size == 126 else 1 << 16
                size = int.from_bytes(data[at + 2 : body - 4])
                if size < least or size >> 63:
                    raise Violation(PROTOCOL_ERROR, "a length that is not written in the shortest way")
                if size > self._max_bytes:
                    raise Violation(TOO_BIG, f"a frame of more than {self._max_bytes} bytes")
            stop = body + size
            if stop > end:
                self._need = stop - at
                break
            yield first, unmasked(data[body:stop], data[body - 4 : body])
            at = stop
        if at < end:
            self._rest += data[at:]

    def _check(self, first: int, second: int, size: int) -> None:
        if first & RESERVED:
            raise Violation(PROTOCOL_ERROR, "reserved bits without an extension that was agreed on")
        if second < MASKED:
            raise Violation(PROTOCOL_ERROR, "a frame that is not masked")
        if first & OPCODE not in _KNOWN:
            raise Violation(PROTOCOL_ERROR, f"the opcode {first & OPCODE}, which is not defined")
        if first & _CONTROL and (not first & FIN or size > _CONTROL_BYTES):
            raise Violation(PROTOCOL_ERROR, "a control frame in fragments, or of more than 125 bytes")
        if size > self._max_bytes and size < 126:
            raise Violation(TOO_BIG, f"a frame of more than {self._max_bytes} bytes")


def unmasked(payload: bytes, key: bytes) -> bytes:
    """Take the mask off (section 5.3): one exclusive or over the whole, as numbers."""
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")


def framed(opcode: int, payload: bytes) -> bytes:
    """A whole frame of a server, which masks nothing."""
    size = len(payload)
    if size < 126:
        return bytes((FIN | opcode, size)) + payload
    if size < 1 << 16:
        return b"%c\x7e%b%b" % (FIN | opcode, size.to_bytes(2), payload)
    return b"%c\x7f%b%b" % (FIN | opcode, size.to_bytes(8), payload)
