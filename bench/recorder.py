"""``python -m bench.recorder``: what the flight recorder costs per connect, in pairs with and without it.

A connect is told to a store as a node tells it, in batches of ten; only the store's own CPU is measured, that of all
its threads. "Without" is the same store with nothing noted of what nodes told: timelines have the transitions alone.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stillhere.core.ledger import Ledger
from stillhere.core.record import ConnectionSummary, Contribution
from stillhere.core.words import ConnectionId, Incarnation, ReadyState, SessionId, TabId, UserId
from stillhere.store.local import LocalStore
from stillhere.store.memory import MemoryStore
from stillhere.store.sqlite import SqliteStore

BATCH = 10
CONNECT = {"memory": 483.0, "sqlite": 622.0}
"""CPU µs of a whole connect, from the socket to the welcome (docs/performance.md)."""


@contextmanager
def unrecorded() -> Iterator[None]:
    """Nothing is noted of what nodes tell."""

    def nothing(*_: Any, **__: Any) -> None:
        return None

    noted = Ledger._record
    Ledger._record = nothing  # type: ignore[method-assign]
    try:
        yield
    finally:
        Ledger._record = noted  # type: ignore[method-assign]


async def connects(store: LocalStore, count: int) -> float:
    """CPU µs per connect in the store, all threads of the process together."""
    await store.start(Incarnation("n1-0123456789abcdef"), 15.0)
    told = [
        Contribution(
            UserId(f"user-{n:06}"),
            1,
            (
                ConnectionSummary(
                    ConnectionId(f"c_{n:022}"),
                    SessionId(f"s_{n:022}"),
                    TabId(f"t_{n:022}"),
                    ReadyState.OPEN,
                    time.time(),
                    client="Chrome 156",
                ),
            ),
        )
        for n in range(count)
    ]
    gc.collect()
    began = time.process_time()
    for first in range(0, count, BATCH):
        await store.put(told[first : first + BATCH])
    used = time.process_time() - began
    await store.stop()
    return used / count * 1e6


def measure(kind: str, count: int) -> float:
    """One store, from its start to its stop."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        store: LocalStore = MemoryStore(time.time) if kind == "memory" else SqliteStore(path, time.time)
        return asyncio.run(connects(store, count))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--connects", type=int, default=5000)
    given = parser.parse_args()
    for kind, whole in CONNECT.items():
        pairs = []
        for n in range(given.pairs + 1):
            with_it = measure(kind, given.connects) if n % 2 else 0.0
            with unrecorded():
                without = measure(kind, given.connects)
            if not n % 2:
                with_it = measure(kind, given.connects)
            if n:  # the first pair warms up
                pairs.append((with_it, without))
        cost = statistics.median(a - b for a, b in pairs)
        recorded, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(
            f"{kind}: {recorded:.1f} µs per connect in the store, {bare:.1f} µs without; median of the differences "
            f"{cost:.1f} µs, {cost / whole:.1%} of a connect ({whole:.0f} µs)"
        )


if __name__ == "__main__":
    main()
