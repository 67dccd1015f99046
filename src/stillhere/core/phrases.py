"""Times, lengths and names, as sentences say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf

from stillhere.core.record import Ending
from stillhere.core.words import FINAL_CAUSES, Cause, Incarnation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400

_UNITS = (("min", "s", 60, 1, 7200.0), ("h", "min", 3600, 60, 2.0 * _DAY), ("d", "h", _DAY, 3600, inf))

DEPARTURES = {
    Cause.BYE: "said goodbye",
    Cause.KICKED: "was kicked",
    Cause.REVOKED: "was revoked",
    Cause.SUPERSEDED: "was superseded by a newer connection of the same tab",
}
"""What a cause without a window stands for."""


def instant(at: float, beside: float | None = None) -> str:
    """A time in UTC, to the millisecond; with its date unless it is of the same day as another one.

    Args:
        at: Unix time, seconds.
        beside: the other one.
    """
    try:
        moment = _EPOCH + timedelta(milliseconds=round(at * 1000))
    except (OverflowError, ValueError):
        return f"{at:.0f} s after 1970"
    time = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"
    return time if beside is not None and at // _DAY == beside // _DAY else f"{moment:%Y-%m-%d} {time}"


def length(seconds: float) -> str:
    """A length of time: ``800 ms``, ``1.8 s``, ``45 s``, ``5 min 3 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if round(seconds * 1000) < 1000:
        return f"{round(seconds * 1000)} ms"
    if seconds < 120:
        return f"{round(seconds, 1):g} s"
    big, small, size, part = next(unit for unit in _UNITS if seconds < unit[4])[:4]
    whole, rest = divmod(round(seconds), size)
    return f"{whole} {big} {rest // part} {small}" if rest // part else f"{whole} {big}"


def node_of(incarnation: Incarnation) -> str:
    """The name of the node whose incarnation this is."""
    return incarnation.rpartition("-")[0] or incarnation


def manner(ending: Ending) -> str:
    """How a connection ended: ``with 1001 going_away``, with who closed and the reason where they are known."""
    if ending.cause in FINAL_CAUSES:
        text = f"with {ending.cause.value}"
    else:
        text = f"with {ending.code} {ending.cause.value}" if ending.code else f"with {ending.cause.value}"
    if ending.code and ending.by:
        text += f", closed by the {ending.by}"
    return f"{text} (“{ending.reason}”)" if ending.reason else text
