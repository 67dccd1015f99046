"""From WebSocket frames to messages, by the rules of RFC 6455; pure.

A frame engine underneath checks what one frame can tell (masking, opcodes, lengths, control frames). What only a
sequence of frames can tell is checked here: that fragments follow one another, that text is UTF-8, that a message
stays within its size bound however it is cut, and that nobody spends our time on fragments that carry nothing.

An idle connection costs one small object; a buffer exists only between the first and the last fragment of a message.
"""

from __future__ import annotations

import codecs

CONTINUATION = 0x0
TEXT = 0x1
BINARY = 0x2
CLOSE = 0x8
PING = 0x9
PONG = 0xA

NORMAL = 1000
PROTOCOL_ERROR = 1002
NO_STATUS = 1005
INVALID_TEXT = 1007
POLICY_VIOLATION = 1008
TOO_BIG = 1009
INTERNAL_ERROR = 1011

MAX_FRAGMENTS = 4096
"""Fragments in one message. No bound in the RFC; its test suites stay below 1,100, browsers send one or two."""

MAX_EMPTY_FRAGMENTS = 64
"""Empty fragments in one message: allowed by RFC 6455 section 5.4, useful to nobody but an attacker."""

_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class Violation(Exception):
    """The peer broke the protocol; close with ``code``.

    Args:
        code: the close code to send.
        reason: what was wrong, for the close frame and the log.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class FragmentBudget:
    """Counts the fragments of one message.

    A fragment costs the sender six bytes and the receiver a parse and a call, so their number needs a bound of its own
    beside the size of what they carry.
    """

    __slots__ = ("_empty", "_fragments")

    def __init__(self) -> None:
        self._fragments = 0
        self._empty = 0

    def spend(self, size: int) -> None:
        """Count one fragment of ``size`` bytes.

        Raises:
            Violation: 1008, more fragments or empty fragments than a message may have.
        """
        self._fragments += 1
        if self._fragments > MAX_FRAGMENTS:
            raise Violation(POLICY_VIOLATION, f"more than {MAX_FRAGMENTS} fragments in one message")
        if size == 0:
            self._empty += 1
            if self._empty > MAX_EMPTY_FRAGMENTS:
                raise Violation(POLICY_VIOLATION, f"more than {MAX_EMPTY_FRAGMENTS} empty fragments in one message")


class _Partial:
    """A message whose last fragment has not arrived."""

    __slots__ = ("budget", "content", "decoder")

    def __init__(self, text: bool) -> None:
        self.budget = FragmentBudget()
        self.content = bytearray()
        self.decoder = _utf8_decoder() if text else None


class MessageLayer:
    """Puts the data frames of one connection together.

    Args:
        max_message_bytes: bound of a message, over all its fragments.
    """

    __slots__ = ("_max_message_bytes", "_partial")

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._partial: _Partial | None = None

    @property
    def unfinished(self) -> bool:
        """Whether the rest of a message has yet to come."""
        return self._partial is not None

    def data(self, opcode: int, fin: int, payload: bytes) -> bytes | bytearray | None:
        """Take a frame that is not a control frame.

        Args:
            opcode: CONTINUATION, TEXT or BINARY.
            fin: whether this is the last fragment.
            payload: unmasked.

        Returns:
            A whole text message as bytes, a whole binary one as bytearray, or None if more is to come.

        Raises:
            Violation: 1002 for a fragment out of order, 1007 for text that is not UTF-8 (at the first wrong byte), 1009
                for a message above the bound, 1008 for too many fragments.
        """
        if opcode == CONTINUATION:
            if self._partial is None:
                raise Violation(PROTOCOL_ERROR, "a continuation frame without a message to continue")
            return self._append(self._partial, fin, payload)
        if self._partial is not None:
            raise Violation(PROTOCOL_ERROR, "a new message inside a fragmented one")
        if fin:
            self._bound(len(payload))
            if opcode == BINARY:
                return bytearray(payload)
            if not payload.isascii():  # cheaper than the throw-away str of a decode
                decode_text(payload)
            return payload
        self._partial = _Partial(opcode == TEXT)
        return self._append(self._partial, fin, payload)

    def _append(self, partial: _Partial, fin: int, payload: bytes) -> bytes | bytearray | None:
        partial.budget.spend(len(payload))
        self._bound(len(partial.content) + len(payload))
        if partial.decoder is not None:
            try:
                partial.decoder.decode(payload, bool(fin))
            except UnicodeDecodeError:
                raise Violation(INVALID_TEXT, "a text message that is not UTF-8") from None
        partial.content += payload
        if not fin:
            return None
        self._partial = None
        return partial.content if partial.decoder is None else bytes(partial.content)

    def _bound(self, size: int) -> None:
        if size > self._max_message_bytes:
            raise Violation(TOO_BIG, f"a message of more than {self._max_message_bytes} bytes")


def decode_text(payload: bytes) -> str:
    """The text.

    Raises:
        Violation: 1007, not UTF-8.
    """
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Violation(INVALID_TEXT, "a text message that is not UTF-8") from None


def is_legal_close_code(code: int) -> bool:
    """Whether a close frame may carry ``code``: RFC 6455 section 7.4 and IANA's registry, 1000 to 1014."""
    return (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999


def read_close(payload: bytes) -> tuple[int, str]:
    """Read the payload of a close frame.

    Returns:
        The code and the reason; (1005, "") for an empty payload.

    Raises:
        Violation: 1002 for one byte or a code that no frame may carry, 1007 for a reason that is not UTF-8.
    """
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise Violation(PROTOCOL_ERROR, "a close frame with half a code")
    code = int.from_bytes(payload[:2])
    if not is_legal_close_code(code):
        raise Violation(PROTOCOL_ERROR, f"a close frame with the code {code}, which no frame may carry")
    return code, decode_text(payload[2:])


def short_reason(reason: str) -> str:
    """Cut a reason to the 123 bytes of UTF-8 that fit into a close frame."""
    return reason if len(reason) <= 30 else reason.encode()[:123].decode(errors="ignore")
