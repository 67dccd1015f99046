"""One timer wheel for all connections: no task and no timer object per connection.

The wheel has a clock of its own that a stall cannot push forward: after a pause of the process it has moved by one
stride only, so that every ping deadline is extended by the pause. And before it judges anybody after a late tick it
lets the loop read once more: what arrived during the pause is heard first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

_LATE = 4
"""A tick that is late by more than this many strides was a stall."""


class Rider(Protocol):
    """Something that wants to be called at a time."""

    slot: int
    """The wheel's own: in which slot it sits, -1 for none."""

    def due(self, now: float) -> float | None:
        """Do what is due at wheel time ``now``; say when to call again, or None for never."""
        ...


class Wheel:
    """Calls riders when they are due, to within one stride."""

    def __init__(
        self,
        *,
        stride: float = 0.25,
        slots: int = 512,
        monotonic: Callable[[], float],
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            stride: seconds between ticks, and the precision.
            slots: how far it reaches at once; later times are taken round by round.
            monotonic: seconds, never backwards.
            on_tick: called after each tick.
        """
        self.now = 0.0
        self.stalled = 0.0
        """Seconds of stalls so far."""
        self.lag = 0.0
        """How late the last tick was, in seconds."""
        self._stride = stride
        self._slots: list[set[Rider]] = [set() for _ in range(slots)]
        self._monotonic = monotonic
        self._seen = 0.0
        self._cursor = 0
        self._on_tick = on_tick
        self._timer: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Tick on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._seen = self._monotonic()
        self._timer = self._loop.call_later(self._stride, self._tick)

    def stop(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def put(self, rider: Rider, at: float) -> None:
        """Call ``rider.due`` at wheel time ``at``; replaces an earlier wish."""
        self.drop(rider)
        ahead = max(1, min(int((at - self.now) / self._stride) + 1, len(self._slots) - 1))
        rider.slot = (self._cursor + ahead) % len(self._slots)
        self._slots[rider.slot].add(rider)

    def drop(self, rider: Rider) -> None:
        """Do not call it any more."""
        if rider.slot >= 0:
            self._slots[rider.slot].discard(rider)
            rider.slot = -1

    def turn(self) -> None:
        """Advance by one stride and call who is due."""
        self.now += self._stride
        self._cursor = (self._cursor + 1) % len(self._slots)
        riders = self._slots[self._cursor]
        if not riders:
            return
        self._slots[self._cursor] = set()
        for rider in riders:
            if rider.slot != self._cursor:
                continue  # the call of another one has dropped or moved it
            rider.slot = -1
            at = rider.due(self.now)
            if at is not None:
                self.put(rider, at)

    def _tick(self) -> None:
        assert self._loop is not None
        now = self._monotonic()
        self.lag = max(0.0, now - self._seen - self._stride)
        self._seen = now
        if self.lag > _LATE * self._stride:
            self.stalled += self.lag
            # read before you judge: one whole turn of the loop, its selector included
            self._timer = self._loop.call_soon(self._loop.call_soon, self._after_stall)
            return
        self._finish()

    def _after_stall(self) -> None:
        if self._timer is not None:
            self._finish()

    def _finish(self) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_later(self._stride, self._tick)
        self.turn()
        if self._on_tick is not None:
            self._on_tick()
