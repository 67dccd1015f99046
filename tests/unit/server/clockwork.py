"""A loop whose clock is moved by waiting, and a store that can be troubled: what the world stands on."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, TypeVar

from stillhere.core.record import Contribution
from stillhere.core.words import RoomName, UserId
from stillhere.store.contract import Cursor, LogPage, NodeState, Outcome, RoomSnapshot, Snapshot, StoreUnavailable
from stillhere.store.memory import MemoryStore

START = 1_790_000_000.0
T = TypeVar("T")


class Clock:
    """Time, moved by whoever waits."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def now(self) -> float:
        """Unix seconds."""
        return START + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed


class _Selector(selectors.SelectSelector):
    """Does not wait: it moves the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for something that will never happen"
            self._clock.elapsed += max(0.0, timeout)
        return ready


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop on such a clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(_Selector(clock))
        self._clock = clock

    def time(self) -> float:
        return self._clock.elapsed


class TroubledStore(MemoryStore):
    """A memory store that can be told to keep its acknowledgements back, to fail, or not to be readable."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        super().__init__(clock.now, **options)
        self.failing = self.failing_beats = False
        self.unreadable = self.unreadable_rooms = False
        self.before = self.after = 0
        """Turns of the loop between a request to read and the look at the data, and between that and the answer."""
        self.puts: list[Sequence[Contribution]] = []
        self._held: asyncio.Event | None = None
        self._others: list[NodeState] = []

    def share(self, *others: NodeState) -> None:
        """From now on it looks like one that other nodes use too: out of reach, not full, when it fails."""
        self.applies_at_once = False
        self._others = list(others)

    async def nodes(self) -> list[NodeState]:
        return self._others

    async def beat(self) -> Outcome:
        if self.failing_beats:
            raise StoreUnavailable("no answer in time")
        return await super().beat()

    def hold(self) -> None:
        """Acknowledge nothing from now on."""
        self._held = asyncio.Event()

    def release(self) -> None:
        """Acknowledge all that was kept back."""
        if self._held is not None:
            self._held.set()
            self._held = None

    def put(self, contributions: Sequence[Contribution]) -> Awaitable[Outcome]:
        self.puts.append(contributions)
        return super().put(contributions)

    async def _commit(self) -> None:
        seq = self.ledger.state.seq
        self.ledger.take_dirty()
        if self._held is not None:
            await self._held.wait()
        if self.failing:
            raise StoreUnavailable("the disk is full")
        self._publish(seq)

    async def _slowly(self, reading: Coroutine[Any, Any, T]) -> T:
        for _ in range(self.before):
            await asyncio.sleep(0)
        found = await reading
        for _ in range(self.after):
            await asyncio.sleep(0)
        if self.unreadable:
            raise StoreUnavailable("the disk cannot be read")
        return found

    async def snapshot(self, users: Sequence[UserId]) -> Snapshot:
        return await self._slowly(super().snapshot(users))

    async def room(self, room: RoomName) -> RoomSnapshot:
        if self.unreadable_rooms:
            raise StoreUnavailable("this part of the disk cannot be read")
        return await self._slowly(super().room(room))

    async def read_log(self, after: Cursor, limit: int = 1000, partition: int = 0) -> LogPage:
        return await self._slowly(super().read_log(after, limit, partition))
