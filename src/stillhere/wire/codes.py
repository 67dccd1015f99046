"""Close and error codes, and what a client should do about them."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from stillhere.core.words import Cause


class ErrorCode(StrEnum):
    """The ``code`` of an ``error`` message."""

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    TOO_MANY = "too_many"
    RATE_LIMITED = "rate_limited"
    TOO_LARGE = "too_large"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class CloseCode(IntEnum):
    """What the server closes with. The range tells the client what to do (:func:`advice`)."""

    NORMAL = 1000
    INTERNAL = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    PROTOCOL_ERROR = 4000
    UNAUTHORIZED = 4001
    FORBIDDEN_ORIGIN = 4003
    KICKED = 4004
    SUPERSEDED = 4005
    OVER_CAPACITY = 4100
    RATE_LIMITED = 4101
    SLOW_CONSUMER = 4102
    HEARTBEAT_LOST = 4201


CAUSE_OF: dict[CloseCode, Cause] = {
    CloseCode.NORMAL: Cause.BYE,
    CloseCode.INTERNAL: Cause.ABNORMAL,
    CloseCode.SERVICE_RESTART: Cause.NODE_DRAIN,
    CloseCode.TRY_AGAIN_LATER: Cause.NODE_DRAIN,
    CloseCode.PROTOCOL_ERROR: Cause.PROTOCOL_ERROR,
    CloseCode.UNAUTHORIZED: Cause.EXPIRED,
    CloseCode.FORBIDDEN_ORIGIN: Cause.REVOKED,
    CloseCode.KICKED: Cause.KICKED,
    CloseCode.SUPERSEDED: Cause.SUPERSEDED,
    CloseCode.OVER_CAPACITY: Cause.NODE_DRAIN,
    CloseCode.RATE_LIMITED: Cause.PROTOCOL_ERROR,
    CloseCode.SLOW_CONSUMER: Cause.SLOW_CONSUMER,
    CloseCode.HEARTBEAT_LOST: Cause.HEARTBEAT_LOST,
}
"""With which cause a connection ends that the server closes with this code."""


class Advice(StrEnum):
    """What a client does after a close."""

    STOP = "do not reconnect"
    BACK_OFF = "reconnect with back-off"
    SOON = "reconnect soon, with full jitter"


def advice(code: int, *, said_bye: bool = False) -> Advice:
    """What a close code asks of a client.

    Args:
        code: as the client sees it; 1006 for an abrupt end.
        said_bye: whether the client itself had said ``bye``.
    """
    if 4000 <= code < 4100 or (code == CloseCode.NORMAL and said_bye):
        return Advice.STOP
    if 4100 <= code < 4200:
        return Advice.BACK_OFF
    return Advice.SOON
