"""What clients are shown, and when: recorders that take the place of a client's kept frames, and arrivals in open loop.

Latency is measured from the moment for which a message was *scheduled*, not from when it was sent: a generator that is
late, or a server that makes it wait, cannot hide what its users would have waited for (coordinated omission).
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import time
from array import array
from collections.abc import Callable, Sequence

from bench.stand import Failed

clock = time.perf_counter
"""Seconds. The loop's own clock of uvloop counts whole milliseconds."""

_USER = re.compile(rb'"user":"([^"]+)"')


def arrivals(rate: float, seconds: float, seed: str) -> list[float]:
    """When messages are due, in seconds from the beginning: at random, the same ones for the same seed.

    Given how many there are, the arrivals of a Poisson process are uniform in time.

    Args:
        rate: messages per second.
        seconds: for how long.
        seed: of the random numbers.
    """
    chance = random.Random(seed)
    return sorted(chance.uniform(0.0, seconds) for _ in range(round(rate * seconds)))


async def on_time(due: Sequence[float], send: Callable[[int], None]) -> float:
    """Call ``send`` with 0, 1, 2, … at those moments of :data:`clock`, never before.

    Returns:
        How many seconds late the latest was.
    """
    latest = 0.0
    for number, at in enumerate(due):
        wait = at - clock()
        while wait > 0:
            await asyncio.sleep(wait)
            wait = at - clock()  # a timer may be early by half a millisecond
        latest = max(latest, -wait)
        send(number)
    return latest


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least this share of all are not above (nearest rank).

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("there is no percentile of nothing")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Shown(list[bytes]):
    """Notes how long after the moment it was due each change reached a watcher; keeps no frame."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = array("d")
        self._due: dict[bytes, float] = {}

    def expect(self, user: str, due: float) -> None:
        """This user's next change is due then."""
        self._due[user.encode()] = due

    def append(self, text: bytes) -> None:
        now = clock()
        if b'"presence"' in text[:40]:
            for user in _USER.findall(text):
                due = self._due.get(user)
                if due is not None:
                    self.seconds.append(now - due)

    async def complete(self, count: int, patience: float = 10.0) -> None:
        """Wait until so many have been shown.

        Raises:
            Failed: fewer, or more, have been.
        """
        end = clock() + patience
        while len(self.seconds) < count:
            if clock() > end:
                raise Failed(f"{count - len(self.seconds)} of {count} changes were not shown within {patience:g} s")
            await asyncio.sleep(0.05)
        if len(self.seconds) > count:
            raise Failed(f"{len(self.seconds) - count} changes were shown twice")

    def figures(self, prefix: str) -> dict[str, float]:
        """Milliseconds: the median, the 99th percentile and the longest."""
        values = sorted(self.seconds)
        return {
            f"{prefix}_p50_ms": percentile(values, 0.5) * 1000,
            f"{prefix}_p99_ms": percentile(values, 0.99) * 1000,
            f"{prefix}_max_ms": values[-1] * 1000,
        }


class Departures(list[bytes]):
    """Counts who is shown as gone, to a watcher or in a room, who should not be; keeps no frame.

    Attributes:
        wrong: how often somebody was shown as gone.
        parted: users who said goodbye and have not come back: they may be shown as gone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wrong = 0
        self.parted: set[str] = set()

    def append(self, text: bytes) -> None:
        if b'"leaves":[' in text or b'"offline"' in text:
            message = json.loads(text)
            gone = [left["user"] for left in message.get("leaves", ())]
            gone += [told["user"] for told in message.get("changes", ()) if told["status"] == "offline"]
            self.wrong += sum(user not in self.parted for user in gone)
