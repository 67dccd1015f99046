"""A set of deadlines that can be moved and withdrawn: a heap that forgets lazily."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=str)


class Deadlines(Generic[K]):
    """At most one deadline per key; all operations are logarithmic. Equal ones come in the order of their keys."""

    __slots__ = ("_heap", "_of")

    def __init__(self) -> None:
        """Start empty."""
        self._of: dict[K, float] = {}
        self._heap: list[tuple[float, K]] = []

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, key: K) -> bool:
        return key in self._of

    def get(self, key: K) -> float | None:
        """The deadline of a key, or None."""
        return self._of.get(key)

    def set(self, key: K, at: float | None) -> None:
        """Give a key its deadline, in seconds; None withdraws it."""
        if at is None:
            self._of.pop(key, None)
        elif self._of.get(key) != at:
            self._of[key] = at
            heapq.heappush(self._heap, (at, key))

    def next(self) -> float | None:
        """The earliest deadline, or None."""
        heap, of = self._heap, self._of
        while heap and of.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float, limit: int = 1 << 30) -> Iterator[K]:
        """Withdraw and yield the keys whose deadline has come, earliest first, at most ``limit``."""
        while limit > 0:
            at = self.next()
            if at is None or at > now:
                return
            key = heapq.heappop(self._heap)[1]
            del self._of[key]
            limit -= 1
            yield key
