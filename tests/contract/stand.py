"""What the contract tests stand on: a clock that is moved by hand, a node that tells the store things, the stores."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stillhere.core.events import Event, Transition
from stillhere.core.grace import GracePolicy
from stillhere.core.leases import Limits
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
from stillhere.store.contract import Cursor, Outcome, Store
from stillhere.store.local import LocalStore
from stillhere.store.memory import MemoryStore
from stillhere.store.sqlite import SqliteStore
from stillhere.store.sqlite_writer import Retention

START = 1_790_000_000.0
LEASE = 15.0
NODE = Incarnation("n1.first")

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
"""The suite runs over each of these."""


class Desk:
    """A node, as a store sees it: knows its connections and tells of them, whole and with a revision."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.connections: dict[UserId, dict[ConnectionId, ConnectionSummary]] = {}
        self.revisions: dict[UserId, int] = {}
        self.events: list[Event] = []
        self._opened = 0

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
        """Let time pass, with a sweep each second. Returns what happened."""
        seen = len(self.events)
        until = self.clock.now + seconds
        while self.clock.now < until - 1e-9:
            self.clock.now = min(until, self.clock.now + 1.0)
            await self.sweep()
        return self.events[seen:]

    def add(self, user: UserId, tab: str = "t1", session: str = "s1", **state: Any) -> ConnectionSummary:
        """A new connection, not told yet."""
        self._opened += 1
        c = ConnectionSummary(
            ConnectionId(f"{user}.{self._opened}"),
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


class Stand:
    """A started store with its clock and its node."""

    def __init__(self, make: Make, folder: Path, clock: Clock, kept: Kept) -> None:
        self.make = make
        self.folder = folder
        self.clock = clock
        self.kept = kept
        self.store = make(folder, clock, kept)
        self.desk = Desk(self.store, clock)

    async def start(self, incarnation: Incarnation = NODE) -> Stand:
        await self.store.start(incarnation, LEASE)
        return self

    async def again(self, incarnation: str = "n1.second") -> Stand:
        """Start the next run, on what this one left."""
        return await Stand(self.make, self.folder, self.clock, self.kept).start(Incarnation(incarnation))

    async def kill(self) -> None:
        """End this run without a goodbye: what is not in the file is lost."""
        assert isinstance(self.store, SqliteStore)
        await self.store._close()

    async def log(self, after: Cursor, limit: int = 1000) -> list[Transition]:
        """The log to its end, page by page."""
        found: list[Transition] = []
        while True:
            page = await self.store.read_log(after, limit)
            assert not page.gap, f"a gap after {after}"
            if not page.entries:
                return found
            found.extend(page.entries)
            after = page.cursor

    def image(self) -> bytes:
        """Everything the store knows, encoded."""
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
