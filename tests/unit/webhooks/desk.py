"""A courier at work on a real store, with time that is moved by waiting, and an endpoint that a test plays."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, cast

from stillhere.core.clock import ClockLimits
from stillhere.core.leases import Limits
from stillhere.core.words import Cause, Incarnation, UserId
from stillhere.server.webhooks.courier import Courier, Result
from stillhere.server.webhooks.payload import EVENTS
from stillhere.server.webhooks.sender import Answer, NotDelivered
from stillhere.store.local import LocalStore
from stillhere.store.memory import MemoryStore
from tests.contract.stand import Clock as StandClock
from tests.contract.stand import Desk as Teller
from tests.unit.server.clockwork import Clock, Loop

GIVE_UP = 7200.0
NO_HOLD = Limits(clock=ClockLimits(gap_hold=0.0, recovery_hold=0.0))
"""Nobody sweeps here, and the store is not to take that for trouble."""

OK, DOWN = Answer(204), Answer(503)


class Sent(NamedTuple):
    """One attempt."""

    at: float
    """Seconds since the test began."""
    id: str
    type: str
    user: str
    data: dict[str, Any]


class Moment:
    """The clock as the contract's desk reads it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @property
    def now(self) -> float:
        return self._clock.now()


class Desk:
    """See the module."""

    def __init__(self, clock: Clock, store: LocalStore | None = None, **options: Any) -> None:
        self.clock = clock
        self.store = store or MemoryStore(clock.now, limits=NO_HOLD, **options)
        self.teller = Teller(self.store, cast(StandClock, Moment(clock)))
        self.sent: list[Sent] = []
        self.most = 0
        """Attempts that were under way at the same time."""
        self.counted: dict[str, int] = {}
        self.takes: Callable[[Sent], Answer | None] = lambda sent: OK
        """What the endpoint says; None: nothing that counts."""
        self.latency = 0.0
        self.courier = self.make()
        self._under_way = 0
        self._task: asyncio.Task[None] | None = None

    def make(self, *events: str) -> Courier:
        courier = Courier(
            "wh_1",
            frozenset(change for name, change in EVENTS.items() if not events or name in events),
            (b"k" * 32,),
            self,
            self.store,
            node="n1",
            give_up=GIVE_UP,
            now=self.clock.now,
            monotonic=self.clock.monotonic,
            count=self._count,
            rng=random.Random(1),
        )
        self.store.on_news(courier.wake)
        return courier

    def _count(self, hook: str, result: Result, number: int) -> None:
        self.counted[result.value] = self.counted.get(result.value, 0) + number

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        message = json.loads(body)
        sent = Sent(
            self.clock.elapsed, headers["webhook-id"], message["type"], message["data"].get("user", ""), message["data"]
        )
        self.sent.append(sent)
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            told = self.takes(sent)
        finally:
            self._under_way -= 1
        if told is None:
            raise NotDelivered("no answer within 10 s")
        return told

    async def open(self) -> Desk:
        """Open the store."""
        await self.store.start(Incarnation("n1-1"), 15.0)
        return self

    async def begin(self) -> Desk:
        """Let the courier run."""
        self.courier.chosen = True
        self._task = asyncio.ensure_future(self.courier.run())
        await asyncio.sleep(0.01)
        return self

    async def end(self) -> None:
        """Stop the courier, as a node does that stops."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def flip(self, *users: str, times: int = 1) -> None:
        """Each user comes and goes: two transitions."""
        for _ in range(times):
            for user in map(UserId, users):
                c = await self.teller.open(user)
                await self.teller.end(user, c, Cause.BYE, 0.0)

    def ids(self, user: str = "") -> list[str]:
        """What was sent, of one user or all."""
        return [sent.id for sent in self.sent if user in ("", sent.user)]

    def versions(self, user: str = "") -> list[int]:
        return [sent.data["version"] for sent in self.sent if user in ("", sent.user) and "version" in sent.data]


def timed(test: Callable[[Clock], Awaitable[None]]) -> Callable[[], None]:
    """Run a test on a loop whose time is moved by waiting."""

    def run() -> None:
        clock = Clock()
        loop = Loop(clock)
        try:
            loop.run_until_complete(test(clock))
        finally:
            loop.run_until_complete(_end_all())
            loop.close()

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    return run


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
