"""A real server as the place of the store: nodes connect as the user with the fewest rights, the tests as another."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import redis

from stillhere.core.events import Event
from stillhere.core.record import Contribution
from stillhere.core.words import Incarnation
from stillhere.store.cluster.store import ClusterStore
from stillhere.store.redis.checks import acl_line
from stillhere.store.redis.engine import RedisEngine
from stillhere.store.redis.library import LIBRARY
from stillhere.store.redis.line import LineOptions, RedisLine, keys_of
from tests.contract.redis_servers import running, servers

if TYPE_CHECKING:
    from tests.contract.stand import Clock, Kept

SERVERS = ("redis", "valkey")

_USER, _PASSWORD, _KEEPER = "stillhere", "least", "keeper"


class TimedLine(RedisLine):
    """A line whose every request carries the time of the test's clock."""

    def __init__(self, link: Any, partition: int, options: LineOptions, clock: Clock) -> None:
        super().__init__(link, partition, options)
        self._options = options
        self._clock = clock

    async def _call(self, operation: str, request: object, incarnation: str = "-") -> tuple[dict[str, Any], Any, Any]:
        self.configure(msgspec.structs.replace(self._options, now=self._clock.now))
        return await super()._call(operation, request, incarnation)


class TimedEngine(RedisEngine):
    """The engine of the server, with lines that follow the test's clock."""

    def __init__(self, url: str, options: LineOptions, clock: Clock) -> None:
        super().__init__(url, 1, options)
        self._clock = clock

    async def line(self, partition: int) -> RedisLine:
        return TimedLine(await self._link(partition), partition, self._options, self._clock)


class SharedPlace:
    """A server; makes nodes' stores on it."""

    def __init__(self, kind: str, port: int) -> None:
        self.kind = kind
        first: Any = redis.Redis("127.0.0.1", port)
        first.execute_command("ACL", "SETUSER", _KEEPER, "on", f">{_PASSWORD}", "~*", "&*", "+@all")
        _, name, *rules = acl_line(LIBRARY.text, _USER, _PASSWORD).split()
        first.execute_command("ACL", "SETUSER", name, *rules)
        first.execute_command("ACL", "SETUSER", "default", "off")
        first.close()
        self.url = f"redis://{_USER}:{_PASSWORD}@127.0.0.1:{port}/0"
        self.admin: Any = redis.Redis("127.0.0.1", port, username=_KEEPER, password=_PASSWORD)

    def __call__(self, folder: Path, clock: Clock, kept: Kept) -> ClusterStore:
        """A node's store, as :func:`stillhere.store.open.open_store` makes it, but for the time."""
        return ClusterStore(
            self.engine(clock, kept), policy=kept.policy, now=clock, rng=random.Random(1), log_kept=kept.log
        )

    def engine(self, clock: Clock, kept: Kept) -> TimedEngine:
        limits = msgspec.structs.replace(kept.limits, watchers_outlive=True)
        return TimedEngine(
            self.url, LineOptions(limits=limits, timeline_entries=kept.timeline, log_kept=kept.log), clock
        )

    def empty(self) -> SharedPlace:
        """Nothing in it, for the next test; the function library stays."""
        self.admin.flushall()
        return self

    def image(self) -> bytes:
        """All that is stored, whatever the order of the server's own tables."""
        found = []
        for key in sorted(self.admin.scan_iter()):
            match self.admin.type(key):
                case b"hash":
                    found.append((key, sorted(self.admin.hgetall(key).items())))
                case b"zset":
                    found.append((key, self.admin.zrange(key, 0, -1, withscores=True)))
                case b"set":
                    found.append((key, sorted(self.admin.smembers(key))))
                case b"stream":
                    found.append((key, [(place, sorted(e.items())) for place, e in self.admin.xrange(key)]))
                case other:
                    raise AssertionError(f"{key} is a {other}")
        return msgspec.msgpack.encode(found)

    def dead(self) -> set[str]:
        """Incarnations that are not reaped yet."""
        return {incarnation.decode() for incarnation in self.admin.hkeys(keys_of(0)[3])}

    def fail_over(self) -> None:
        """As if another process of the server had taken over, with all the data: lines break, an epoch begins."""
        self.admin.hset(keys_of(0)[0], "run", "another process")
        self.admin.execute_command("CLIENT", "KILL", "USER", _USER)


class Neighbour:
    """Another node of a shared store: no more than its line and its incarnation."""

    def __init__(self, engine: RedisEngine, incarnation: Incarnation) -> None:
        self._engine = engine
        self._line: RedisLine | None = None
        self.incarnation = incarnation

    async def join(self, lease: float) -> None:
        """Take a lease, in seconds."""
        told = await (await self._speak()).join(self.incarnation, 1, lease, "", b"")
        assert told.answer == "OK"

    async def put(self, *contributions: Contribution) -> list[Event]:
        """Tell the store, which changes nothing when this node has no lease."""
        return list((await (await self._speak()).put(self.incarnation, 1, contributions)).events)

    async def beat(self, lease: float) -> str:
        """Renew the lease. Returns the store's answer."""
        return (await (await self._speak()).beat(self.incarnation, 1, lease, None)).answer

    async def asserted(self) -> None:
        """All is told."""
        await (await self._speak()).asserted(self.incarnation, 1)

    def hang_up(self) -> None:
        """The line broke: the next request is made on another."""
        self._line = None

    async def close(self) -> None:
        await self._engine.close()

    async def _speak(self) -> RedisLine:
        if self._line is None:
            self._line = await self._engine.line(0)
            await self._line.hello(0, self.incarnation, 1, 0, [])
        return self._line


class Places:
    """The servers of a test run, each started when a test asks for it first."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._found: dict[str, SharedPlace] = {}

    def of(self, kind: str) -> SharedPlace:
        """An empty server of a kind; skips the test where it is not installed."""
        if kind not in self._found:
            program = servers().get(kind)
            if program is None:
                pytest.skip(f"there is no {kind} server on this machine")
            self._found[kind] = SharedPlace(kind, self._stack.enter_context(running(program)))
        return self._found[kind].empty()


def places() -> Iterator[Places]:
    """For the length of a test run."""
    with ExitStack() as stack:
        yield Places(stack)
