"""What the contract tests stand on: a clock that is moved by hand, a node that tells the store things, the stores."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stillhere.core.events import Event, Transition
from stillhere.core.grace import GracePolicy
from stillhere.core.leases import Answer, Limits
from stillhere.core.record import ConnectionSummary, Contribution, Ending, Leave
from stillhere.core.words import (
    Cause,
    ConnectionId,
    Incarnation,
    ReadyState,
    RoomName,
    SessionId,
    TabId,
    UserId,
)
from stillhere.store.cluster.store import ClusterStore
from stillhere.store.contract import Cursor, Outcome, Store, StoreUnavailable
from stillhere.store.local import LocalStore
from stillhere.store.memory import MemoryStore
from stillhere.store.sqlite import SqliteStore
from stillhere.store.sqlite_writer import Retention
from tests.contract.shared_place import Neighbour, SharedPlace

START = 1_790_000_000.0
LEASE = 15.0
NODE = Incarnation("n1.first")
NEWS_TIMEOUT = 10.0
"""Seconds that the log may take to reach a reader on a busy machine."""

ALICE, BOB, CAROL = UserId("alice"), UserId("bob"), UserId("carol")
LOBBY, ATTIC = RoomName("lobby"), RoomName("attic")


class Clock:
    """Unix time, moved by hand."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Kept(msgspec.Struct, frozen=True):
    """How much a store is to keep."""

    log: int = 20_000
    timeline: int = 200
    limits: Limits = Limits()
    policy: GracePolicy = GracePolicy.of()


Make = Callable[[Path, Clock, Kept], Store]


def make_memory(folder: Path, clock: Clock, kept: Kept) -> MemoryStore:
    return MemoryStore(clock, policy=kept.policy, limits=kept.limits, timeline_entries=kept.timeline, log_kept=kept.log)


def make_sqlite(folder: Path, clock: Clock, kept: Kept) -> SqliteStore:
    # little in memory, so that the file answers most of what is asked about the past
    return SqliteStore(
        folder / "stillhere.db",
        clock,
        policy=kept.policy,
        limits=kept.limits,
        retention=Retention(timeline_entries=kept.timeline, log_entries=kept.log),
        log_kept=min(kept.log, 8),
        back_off=0.001,
    )


STORES: dict[str, Make] = {"memory": make_memory, "sqlite": make_sqlite}
"""The suite runs over each of these, and over the servers of :data:`tests.contract.shared_place.SERVERS`."""


class Desk:
    """A node, as a store sees it: knows its connections and tells of them, whole and with a revision."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.connections: dict[UserId, dict[ConnectionId, ConnectionSummary]] = {}
        self.revisions: dict[UserId, int] = {}
        self.events: list[Event] = []
        self.opened = 0

    def told(self, user: UserId, endings: Sequence[Ending] = (), leaves: Sequence[Leave] = ()) -> Contribution:
        """The next contribution of a user."""
        self.revisions[user] = revision = self.revisions.get(user, 0) + 1
        return Contribution(
            user, revision, tuple(self.connections.get(user, {}).values()), tuple(endings), tuple(leaves)
        )

    async def put(self, *contributions: Contribution) -> Outcome:
        return self._heard(await self.store.put(contributions))

    async def sweep(self) -> Outcome:
        return self._heard(await self.store.sweep())

    def _heard(self, outcome: Outcome) -> Outcome:
        self.events.extend(outcome.events)
        return outcome

    async def wait(self, seconds: float) -> list[Event]:
        """Let time pass, with a beat and a sweep each second. Returns what happened."""
        seen = len(self.events)
        until = self.clock.now + seconds
        while self.clock.now < until - 1e-9:
            self.clock.now = min(until, self.clock.now + 1.0)
            if not self.store.applies_at_once:  # in the others a sweep is a beat, since nobody else would sweep
                await self.store.beat()
            await self.sweep()
        return self.events[seen:]

    def add(self, user: UserId, tab: str = "t1", session: str = "s1", **state: Any) -> ConnectionSummary:
        """A new connection, not told yet."""
        self.opened += 1
        c = ConnectionSummary(
            ConnectionId(f"{user}.{self.opened}"),
            SessionId(session),
            TabId(tab),
            state.pop("ready", ReadyState.OPEN),
            self.clock.now,
            **state,
        )
        self.connections.setdefault(user, {})[c.id] = c
        return c

    async def open(self, user: UserId, tab: str = "t1", session: str = "s1", **state: Any) -> ConnectionSummary:
        """A connection is open."""
        c = self.add(user, tab, session, **state)
        await self.put(self.told(user))
        return c

    async def change(self, user: UserId, c: ConnectionSummary, **state: Any) -> ConnectionSummary:
        """A connection says something new of itself."""
        self.connections[user][c.id] = c = msgspec.structs.replace(self.connections[user][c.id], **state)
        await self.put(self.told(user))
        return c

    def ending(self, c: ConnectionSummary, cause: Cause, window: float, ago: float = 0.0) -> Ending:
        return Ending(c.id, c.session, c.tab, cause, window, ago, 0, c)

    async def end(
        self, user: UserId, c: ConnectionSummary, cause: Cause, window: float = 8.0, ago: float = 0.0
    ) -> Outcome:
        """A connection ended, ``ago`` seconds before now."""
        del self.connections[user][c.id]
        return await self.put(self.told(user, [self.ending(c, cause, window, ago)]))


class LocalNeighbour:
    """Another node, as a store that serves one would see it if there could be any."""

    def __init__(self, store: LocalStore, clock: Clock, incarnation: Incarnation) -> None:
        self._store = store
        self._clock = clock
        self.incarnation = incarnation

    async def join(self, lease: float) -> None:
        """Take a lease, in seconds."""
        assert self._store.ledger.join(self._clock.now, self.incarnation, 1, lease) == "OK"

    async def put(self, *contributions: Contribution) -> list[Event]:
        """Tell the store, which changes nothing when this node has no lease."""
        if self._store.ledger.put(self._clock.now, self.incarnation, 1, contributions) != "OK":
            return []
        return list((await self._store._finish(Answer.OK)).events)

    async def beat(self, lease: float) -> str:
        """Renew the lease. Returns the store's answer."""
        return self._store.ledger.beat(self._clock.now, self.incarnation, 1, lease)

    async def asserted(self) -> None:
        """All is told."""

    def hang_up(self) -> None:
        """There is no line that could break."""

    async def close(self) -> None:
        """There is nothing to close."""


class Stand:
    """A started store with its clock and its node."""

    def __init__(self, make: Make, folder: Path, clock: Clock, kept: Kept) -> None:
        self.make = make
        self.folder = folder
        self.clock = clock
        self.kept = kept
        self.store = make(folder, clock, kept)
        self.desk = Desk(self.store, clock)
        self.first = Cursor(0, 0)
        """The place of the log at which this run began. A shared store has numbered the node's coming already."""
        self._news = asyncio.Event()
        self.store.on_news(self._news.set)

    @property
    def place(self) -> SharedPlace | None:
        """The server of a store that nodes share; None for one that serves a single node.

        What follows from that by design, and is told apart in the tests:

        * pages come in no order: the server goes through its table, each user once;
        * a place beyond the newest that this node has read is no gap: other nodes write, snapshots may be ahead;
        * the log reaches this node a moment after the answer, and from the start of the node on;
        * figures and the next deadline are as of the last beat and the last sweep;
        * a request that is called off may have been done or not; it is repeated;
        * a node that died without a word is missed when its lease runs out, and the windows of others go on meanwhile.
        """
        return self.make if isinstance(self.make, SharedPlace) else None

    async def start(self, incarnation: Incarnation = NODE) -> Stand:
        await self.store.start(incarnation, LEASE)
        self.first = await self.store.tip()
        return self

    async def again(self, incarnation: str = "n1.second") -> Stand:
        """Start the next run, on what this one left; or another node beside this one. Its connections are others."""
        other = Stand(self.make, self.folder, self.clock, self.kept)
        other.desk.opened = self.desk.opened + 1000
        return await other.start(Incarnation(incarnation))

    async def kill(self) -> None:
        """End this run without a goodbye: what is not in the file is lost, and a lease runs on."""
        if isinstance(self.store, ClusterStore):
            parts, self.store._parts = self.store._parts, []
            for part in parts:
                await part.close()
            await self.store.stop()
        else:
            assert isinstance(self.store, SqliteStore)
            await self.store._close()

    def neighbour(self, incarnation: str) -> LocalNeighbour | Neighbour:
        """Another node of the same store; not joined yet."""
        if self.place is not None:
            return Neighbour(self.place.engine(self.clock, self.kept), Incarnation(incarnation))
        assert isinstance(self.store, LocalStore)
        return LocalNeighbour(self.store, self.clock, Incarnation(incarnation))

    def dead(self) -> set[str]:
        """Incarnations that are not reaped yet."""
        if self.place is not None:
            return self.place.dead()
        assert isinstance(self.store, LocalStore)
        return set(self.store.ledger.state.dead)

    async def caught_up(self, after: Cursor | None = None) -> Cursor:
        """Wait until the log can be read to its end. Returns the end."""
        tip = await self.store.tip()
        await self.log(after or self.first)
        return tip

    async def epoch_is_read(self) -> None:
        """Wait until the log is read in the epoch of now: after a failover the reader finds out for itself."""
        tip = await self.store.tip()
        async with asyncio.timeout(NEWS_TIMEOUT):
            while True:
                self._news.clear()
                with contextlib.suppress(StoreUnavailable):
                    if (await self.store.read_log(tip)).epoch == tip.epoch:
                        return
                await self._news.wait()

    async def log(self, after: Cursor, limit: int = 1000) -> list[Transition]:
        """The log to its end of now, page by page."""
        found: list[Transition] = []
        tip = await self.store.tip()
        async with asyncio.timeout(NEWS_TIMEOUT):
            while True:
                self._news.clear()
                page = await self.store.read_log(after, limit)
                assert not page.gap, f"a gap after {after}"
                found.extend(page.entries)
                if page.cursor == after:
                    if after.seq >= tip.seq or self.place is None:  # who is alone has it all at once
                        return found
                    await self._news.wait()
                after = page.cursor

    def image(self) -> bytes:
        """Everything the store knows, encoded."""
        if self.place is not None:
            return self.place.image()
        assert isinstance(self.store, LocalStore)
        ledger = self.store.ledger
        return msgspec.msgpack.encode((ledger.state, sorted(ledger.records.items()), sorted(ledger.rooms.items())))


def changes(events: Sequence[Event]) -> list[tuple[str, str, str]]:
    """Of the transitions among some events: user, change, cause."""
    return [(e.user, e.change.value, e.cause) for e in events if isinstance(e, Transition)]


def query(path: Path, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(sql, parameters).fetchall()
        connection.commit()
        return rows
    finally:
        connection.close()
