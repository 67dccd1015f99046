"""The store clock: monotonic, clamped, and on hold after trouble.

All windows and leases are measured on it. It advances with the store's own time, but an abnormal step (a pause, an
outage, a clock jump in either direction) moves it by ``gap_step`` at most and holds all expiry for ``gap_hold``, so
that what happened during the trouble is heard before anybody is judged.
"""

from __future__ import annotations

import msgspec


class ClockLimits(msgspec.Struct, frozen=True):
    """All in seconds."""

    gap_limit: float = 3.0
    """A step longer than this is abnormal."""
    gap_back: float = 0.2
    """So is one backward by more than this."""
    gap_step: float = 1.0
    gap_hold: float = 1.0
    """For one node without a network in between; a cluster needs more than its beat."""
    recovery_hold: float = 0.0
    """After the store lost its data: time for the nodes to tell again what they carry."""


class StoreClock(msgspec.Struct, array_like=True):
    """The state of the clock; it is stored with the records."""

    value: float = 0.0
    """Store-clock seconds."""
    seen: float | None = None
    """The store's own time at the last tick."""
    hold_until: float = 0.0
    """No expiry before this value."""
    recover_until: float = 0.0
    """Nor before this one: the nodes are telling again what they carry. It may come earlier, when all have."""

    def tick(self, now: float, limits: ClockLimits) -> float:
        """Take the store's own time, in seconds, and advance. Returns the new value."""
        step = 0.0 if self.seen is None else now - self.seen
        if -limits.gap_back <= step < 0:
            return self.value  # a clock that trembles: no moment counts twice
        self.seen = now
        if step > limits.gap_limit or step < -limits.gap_back:
            self.hold_until = max(self.hold_until, self.value + limits.gap_step + limits.gap_hold)
            step = min(step, limits.gap_step)
        if step > 0:
            self.value += step
        return self.value

    @property
    def on_hold(self) -> bool:
        """Whether expiry has to wait."""
        return self.value < self.held_until

    @property
    def held_until(self) -> float:
        """The value of the clock from which on something may expire."""
        return max(self.hold_until, self.recover_until)

    @property
    def recovering(self) -> bool:
        """Whether nodes may still have to tell what they carry."""
        return self.value < self.recover_until
