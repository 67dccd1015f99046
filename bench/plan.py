"""How much of everything a run does."""

from __future__ import annotations

import msgspec

Figures = dict[str, float]


class Plan(msgspec.Struct, frozen=True):
    """How much of everything."""

    rounds: int = 3
    connections: int = 5000
    watchers: int = 1000
    changes: int = 200
    sweeps: int = 5
    """How often each of the changing users changes in a burst."""
    settle: float = 3.0
    """Seconds between the last connection and the look at the memory."""
    friends: int = 10_000
    watched: int = 100
    """By each of the friends."""
    flips: float = 200.0
    """Changes per second among friends."""
    friends_seconds: float = 20.0
    latency_seconds: float = 20.0
    hour_users: int = 1000
    hour_seconds: float = 30.0


QUICK = Plan(
    rounds=1,
    connections=1500,
    watchers=500,
    changes=40,
    sweeps=2,
    settle=1.0,
    friends=1500,
    watched=50,
    friends_seconds=4.0,
    latency_seconds=4.0,
    hour_users=300,
    hour_seconds=10.0,
)


def names(count: int) -> list[str]:
    """User ids."""
    return [f"user-{i:05}" for i in range(count)]
