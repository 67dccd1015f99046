"""The memory store and the sqlite store, driven side by side: the same answers after every step, restarts included."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stillhere.core.leases import LedgerState
from stillhere.core.ledger import Ledger
from stillhere.core.record import ConnectionSummary, Contribution, Leave, Record
from stillhere.core.words import Availability, Cause, Incarnation, ReadyState, UserId
from stillhere.store.memory import MemoryStore
from stillhere.store.sqlite import SqliteStore
from tests.contract.stand import ALICE, ATTIC, BOB, CAROL, LEASE, LOBBY, Clock, Desk, Kept, make_memory, make_sqlite

T = TypeVar("T")

USERS = (ALICE, BOB, CAROL)
WINDOWS = {
    Cause.BYE: 0.0,
    Cause.KICKED: 0.0,
    Cause.SUPERSEDED: 0.0,
    Cause.CLIENT_CLOSE: 3.0,
    Cause.GOING_AWAY: 8.0,
    Cause.NODE_DRAIN: 45.0,
}
READY = (ReadyState.CONNECTING, ReadyState.OPEN, ReadyState.OPEN, ReadyState.CLOSING)

users = st.sampled_from(USERS)
rooms = st.dictionaries(st.sampled_from((LOBBY, ATTIC)), st.fixed_dictionaries({"seat": st.integers(0, 2)}), max_size=2)
states = st.fixed_dictionaries(
    {},
    optional={
        "availability": st.sampled_from(Availability),
        "meta": st.fixed_dictionaries({"mood": st.sampled_from(("calm", "sly"))}),
        "rooms": rooms,
    },
)


class RevivedStore(MemoryStore):
    """A memory store that begins with what another one had, as if it had been written down and read again."""

    def revive(self, other: MemoryStore, *, clean: bool) -> None:
        """Take over everything; ``clean`` says that the other one was stopped."""
        written = msgspec.msgpack.encode((other.ledger.state, list(other.ledger.records.values())))
        state, records = msgspec.msgpack.decode(written, type=tuple[LedgerState, list[Record]])
        self.ledger = Ledger(self.limits, state)
        self.ledger.load(records)
        self._log, self._timelines = other._log, other._timelines
        self._former_clean = clean


class Twins(RuleBasedStateMachine):
    """Few steps, all of them awaited: what is compared is the outcome, not the timing."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.memory: MemoryStore = make_memory(Path(), self.clock, Kept())
        self.sqlite = self.open()
        self.desk = Desk(self.memory, self.clock)
        self.last: Contribution | None = None
        self.runs = 0
        self.start()
        self.first = self.run(self.sqlite.tip())

    def open(self) -> SqliteStore:
        return make_sqlite(Path(self.folder.name), self.clock, Kept())

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(doing)

    def start(self) -> None:
        self.runs += 1
        for store in (self.memory, self.sqlite):
            self.run(store.start(Incarnation(f"n1.{self.runs}"), LEASE))
        self.desk.connections.clear()

    def put(self, told: Contribution) -> None:
        self.last = told

        async def both() -> None:
            one, other = await self.memory.put([told]), await self.sqlite.put([told])
            assert one.events == other.events
            assert one.inherited == other.inherited

        self.run(both())

    def some(self, data: st.DataObject, user: UserId) -> ConnectionSummary | None:
        there = list(self.desk.connections.get(user, {}).values())
        return data.draw(st.sampled_from(there)) if there else None

    @rule(
        user=users, tab=st.sampled_from("ab"), session=st.sampled_from("xy"), ready=st.sampled_from(READY), state=states
    )
    def connect(self, user: UserId, tab: str, session: str, ready: ReadyState, state: dict[str, Any]) -> None:
        self.desk.add(user, tab, session, ready=ready, **state)
        self.put(self.desk.told(user))

    @rule(user=users, data=st.data(), ready=st.sampled_from(READY[1:]), state=states)
    def change(self, user: UserId, data: st.DataObject, ready: ReadyState, state: dict[str, Any]) -> None:
        if (c := self.some(data, user)) is not None:
            self.desk.connections[user][c.id] = msgspec.structs.replace(c, ready=ready, **state)
            self.put(self.desk.told(user))

    @rule(user=users, data=st.data(), cause=st.sampled_from(list(WINDOWS)), ago=st.sampled_from((0.0, 1.0, 5.0)))
    def end(self, user: UserId, data: st.DataObject, cause: Cause, ago: float) -> None:
        if (c := self.some(data, user)) is not None:
            del self.desk.connections[user][c.id]
            self.put(self.desk.told(user, [self.desk.ending(c, cause, WINDOWS[cause], ago)]))

    @rule(user=users, tab=st.sampled_from("ab"), room=st.sampled_from((LOBBY, ATTIC)))
    def leave(self, user: UserId, tab: str, room: Any) -> None:
        self.put(self.desk.told(user, leaves=[Leave(tab, room)]))  # type: ignore[arg-type]

    @precondition(lambda self: self.last is not None)
    @rule()
    def repeat(self) -> None:
        assert self.last is not None
        self.put(self.last)

    @rule(seconds=st.sampled_from((0.5, 2.0, 9.0, 31.0)))
    def wait(self, seconds: float) -> None:
        async def both() -> None:
            until = self.clock.now + seconds
            while self.clock.now < until:
                self.clock.now = min(until, self.clock.now + 1.0)
                one, other = await self.memory.sweep(), await self.sqlite.sweep()
                assert one.events == other.events

        self.run(both())

    @rule(clean=st.booleans(), down=st.sampled_from((0.0, 1.0, 60.0)))
    def restart(self, clean: bool, down: float) -> None:
        self.run(self.sqlite.stop() if clean else self.sqlite._close())
        revived = RevivedStore(self.clock)
        revived.revive(self.memory, clean=clean)
        self.memory, self.sqlite = revived, self.open()
        self.clock.now += down
        self.last = None
        self.start()

    @invariant()
    def answers_are_the_same(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        one, other = self.memory, self.sqlite
        assert (await one.snapshot(USERS)).users == (await other.snapshot(USERS)).users
        assert await one.rooms("", 10) == await other.rooms("", 10)
        for room in (LOBBY, ATTIC):
            assert (await one.room(room)).members == (await other.room(room)).members
        assert await one.page("", 10, "", None) == await other.page("", 10, "", None)
        assert one.next_deadline() == other.next_deadline()
        for user in USERS:
            assert await one.record(user) == await other.record(user)
            assert (await one.timeline(user, 0.0, 1e12, 300)) == (await other.timeline(user, 0.0, 1e12, 300))
        log, cursor = list(one._log), self.first
        while entries := (page := await other.read_log(cursor, 10)).entries:
            assert not page.gap
            assert list(entries) == log[: len(entries)]
            del log[: len(entries)]
            cursor = page.cursor
        assert log == []
        assert cursor.seq == (await other.tip()).seq == (await one.tip()).seq

    def teardown(self) -> None:
        self.run(self.sqlite.stop())
        self.runner.close()
        self.folder.cleanup()


Twins.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestTwins = Twins.TestCase
