"""When to come back after a connection has ended (``docs/protocol.md``, section 1.4).

| close code | advice |
|---|---|
| 4000-4099 | ``STOP`` |
| 4100-4199; 1002, 1003, 1007, 1009 | ``BACK_OFF``: an equal jitter, at least half of the step is waited |
| 4200-4299, 1001, 1006, 1011, 1012, 1013 and whatever is not listed | ``SOON``: full jitter |

1002 to 1009 mean that something on the way does not like what is sent: trying again at once would not help it.
"""

from __future__ import annotations

from stillhere.wire.codes import Advice, advice

STABLE = 10.0
"""Who was online for so many seconds starts from the first step again."""

_WAYS = {Advice.SOON: (0.5, 10.0), Advice.BACK_OFF: (4.0, 60.0)}
"""The first and the longest step, in seconds. Soon stays below every grace window of a lost path."""

_BROKEN = frozenset({1002, 1003, 1007, 1009})
_DOUBLINGS = 20


def advice_for(code: int) -> Advice:
    """What a close code asks of a client that did not ask for the close."""
    return Advice.BACK_OFF if code in _BROKEN else advice(code)


def delay(way: Advice, attempt: int, random: float) -> float:
    """How long to wait before the next attempt, in seconds.

    Full jitter spreads the clients of a node that died evenly; its price, an occasional retry at once, is what a
    server that is over capacity cannot afford.

    Args:
        way: ``SOON`` or ``BACK_OFF``.
        attempt: how many attempts have failed in a row, from 0.
        random: a number in [0, 1).
    """
    first, longest = _WAYS[way]
    step = min(longest, first * 2.0 ** min(attempt, _DOUBLINGS))
    return random * step if way is Advice.SOON else step * (1 + random) / 2
