"""A partition on a real server, driven in plain steps with a clock that the test moves."""

from __future__ import annotations

from typing import Any

import msgspec

from stillhere.core.clock import ClockLimits
from stillhere.core.leases import Limits
from stillhere.core.record import ConnectionSummary, Contribution, Ending
from stillhere.core.words import (
    Cause,
    ConnectionId,
    Incarnation,
    ReadyState,
    SessionId,
    Status,
    TabId,
    UserId,
)
from stillhere.store.redis.library import LIBRARY
from stillhere.store.redis.line import LineOptions, RedisLine, keys_of
from tests.contract.redis_servers import PlainCaller

N1, N2 = Incarnation("n1.1"), Incarnation("n2.1")
ANN = UserId("ann")
LEASE = 1000.0
LIMITS = Limits(
    remember=60.0, watchers_outlive=True, clock=ClockLimits(gap_limit=3.0, gap_hold=6.0, recovery_hold=20.0)
)
META, LEASES, NODES, _, _, USERS, DUE, AWAY, ROOMS, NAMES, LOG, TIMELINES, _ = keys_of(0)


class Stand:
    """A partition, with a clock that the test moves."""

    def __init__(self, port: int) -> None:
        self.caller = PlainCaller(port, LIBRARY.text)
        self.client: Any = self.caller.client
        self.client.flushall()
        self.options = LineOptions(limits=LIMITS, timeline_entries=8, now=1_790_000_000.0)
        self.line = RedisLine(self.caller, 0, self.options)
        self.revision = 0

    def set(self, **options: Any) -> None:
        self.options = msgspec.structs.replace(self.options, **options)
        self.line.configure(self.options)

    def wait(self, seconds: float) -> None:
        """Time passes; the clock is asked often, so that no step is abnormal."""
        self.set(now=self.options.now + seconds)

    async def pass_by(self, seconds: float) -> list[Any]:
        """Time passes, with a sweep each second. Returns the events of the sweeps."""
        events: list[Any] = []
        for _ in range(int(seconds)):
            self.wait(1.0)
            events += (await self.line.sweep(100)).events
        return events

    async def begin(self) -> None:
        """A store whose first recovery is over, with two nodes."""
        await self.line.hello(0, N1, 1, 1, [])
        for incarnation in (N1, N2):
            await self.line.join(incarnation, 1, LEASE, "", b"")
        await self.pass_by(LIMITS.clock.recovery_hold)

    async def put(self, incarnation: Incarnation, *told: Contribution, channel: int = 1) -> Any:
        return await self.line.put(incarnation, channel, told)

    def told(self, user: UserId, *connections: ConnectionSummary, endings: tuple[Ending, ...] = ()) -> Contribution:
        self.revision += 1
        return Contribution(user, self.revision, connections, endings)

    def connection(self, name: str = "c1", tab: str = "t1", **fields: Any) -> ConnectionSummary:
        plain = ConnectionSummary(
            ConnectionId(name), SessionId("s1"), TabId(tab), ReadyState.OPEN, self.options.now, None, None, None, None
        )
        return msgspec.structs.replace(plain, **fields)

    async def shown(self, user: UserId = ANN) -> Status:
        return (await self.line.snapshot([user])).users[user].status

    def dump(self) -> dict[bytes, Any]:
        """All there is; of a hash without its order, which changes while it grows."""
        client = self.client
        hashes = {key for key in client.scan_iter() if client.type(key) == b"hash"}
        return {key: client.hgetall(key) if key in hashes else client.dump(key) for key in client.scan_iter()}

    def meta(self, name: str) -> str:
        value = self.client.hget(META, name)
        return value.decode() if value else ""


def ends(c: ConnectionSummary, window: float, cause: Cause = Cause.ABNORMAL, ago: float = 0.0) -> Ending:
    return Ending(c.id, c.session, c.tab, cause, window, ago, 0, c)
