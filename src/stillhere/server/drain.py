"""Emptying a node without a herd: close at a steady pace; where there is time, announce it to each connection first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from stillhere.server.peer import Peer

_POLL = 0.02
_AFTERWARDS = 1.0
"""Seconds over which clients spread beyond the moment of their close."""


async def move_away(
    peers: Sequence[Peer],
    seconds: float,
    close_timeout: float,
    monotonic: Callable[[], float],
    rng: random.Random,
    *,
    close: Callable[[Peer], None] = Peer.move,
    announced: bool = True,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Say ``moving`` to all, close them one after the other, and wait until they are gone.

    Args:
        peers: whom.
        seconds: over which the closes are spread.
        close_timeout: how long to wait for the last ones, in seconds.
        monotonic: the clock.
        rng: for the order and the jitter.
        close: how each is closed.
        announced: whether each is told beforehand. If not, its own time is jittered, anywhere in its slot.
        go_on: asked before each close; nobody more is closed once it says no.
    """
    order = list(peers)
    rng.shuffle(order)
    slot = seconds / max(1, len(order))
    begin = monotonic()
    for i, peer in enumerate(order if announced else ()):
        peer.announce_move((i + 1) * slot + rng.uniform(0.0, _AFTERWARDS))
    closed: list[Peer] = []
    for i, peer in enumerate(order):
        at = begin + (i + 1.0 if announced else i + rng.random()) * slot
        wait = at - monotonic()
        if wait > _POLL / 2:
            await asyncio.sleep(wait)
        if not go_on():
            break
        close(peer)
        closed.append(peer)
    end = monotonic() + close_timeout
    # polled: a list of a few thousand sockets that end one by one needs no event each
    while any(peer.socket is not None for peer in closed) and monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(_POLL)
