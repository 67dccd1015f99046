"""Memory, sqlite and a real server side by side: the same random steps, the same events, records, logs, timelines.

What differs by design is made comparable first, and nothing else is: a shared store also numbers the nodes' notices, so
versions are replaced by how many transitions there were; the epoch of a record is left out, since only that store loses
any; an incarnation that the store fenced is compared by the name that it had before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from stillhere.core.events import Event, Given, NoticeKind, Transition
from stillhere.core.grace import GracePolicy
from stillhere.core.leases import Limits
from stillhere.core.record import ConnectionSummary, Contribution, Ending, Leave, Record, Shown, ShownMember
from stillhere.core.words import (
    Availability,
    Cause,
    ConnectionId,
    Incarnation,
    Phase,
    ReadyState,
    RoomName,
    SessionId,
    TabId,
    UserId,
)
from stillhere.store.cluster import follow
from stillhere.store.contract import Fenced, Outcome, StoreUnavailable
from stillhere.store.local import LocalStore
from stillhere.store.memory import MemoryStore
from tests.contract.shared_place import SERVERS, Neighbour, Places, SharedPlace
from tests.contract.stand import (
    ALICE,
    ATTIC,
    BOB,
    CAROL,
    LEASE,
    LOBBY,
    Clock,
    Desk,
    Kept,
    LocalNeighbour,
    Make,
    Stand,
    make_memory,
    make_sqlite,
)

EXAMPLES = int(os.environ.get("STILLHERE_THREE_STORES_EXAMPLES", "20"))
"""Per kind of server. A full run takes 1,000."""

T = TypeVar("T")

USERS = (ALICE, BOB, CAROL, UserId("d\u00f6rte"))
SHARED = "shared"
MAIN = "n1.1"
KEPT = Kept(limits=Limits(false_offline_horizon=30.0, remember=60.0, known_users=2))
POLICY = GracePolicy.of()
READY = (ReadyState.CONNECTING, ReadyState.OPEN, ReadyState.OPEN, ReadyState.CLOSING)
CAUSES = [cause for cause in Cause if cause is not Cause.NODE_LOST]

users = st.sampled_from(USERS)
tabs = st.sampled_from("ab").map(TabId)
states = st.fixed_dictionaries(
    {},
    optional={
        "availability": st.sampled_from(Availability),
        "meta": st.fixed_dictionaries({"mood": st.sampled_from(("calm", "sly"))}),
        "info": st.just({"name": "N"}),
        "rooms": st.dictionaries(st.sampled_from((LOBBY, ATTIC)), st.fixed_dictionaries({"seat": st.integers(0, 2)})),
    },
)


class Account:
    """What one of the stores has said, with its versions replaced by places that the stores have in common."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.cursor = stand.first
        self.neighbour: LocalNeighbour | Neighbour | None = None
        self._places = {0: 0}
        self._told: list[Transition] = []
        """Those that are not compared with the log yet."""

    def heard(self, events: Sequence[Event]) -> list[Event]:
        """Take note of what happened, in order."""
        for event in events:
            if isinstance(event, Transition):
                self._places[event.version] = len(self._places)
        found = [self.event(event) for event in events]
        self._told += [event for event in found if isinstance(event, Transition)]
        return found

    async def logged(self) -> None:
        """The log tells what the outcomes told, once each and in order."""
        log = await self.stand.log(self.cursor, limit=3)
        assert [self.event(entry) for entry in log] == self._told
        self._told = []
        self.cursor = await self.stand.store.tip()

    def event(self, event: Event) -> Event:
        if not isinstance(event, Transition):
            return event
        return msgspec.structs.replace(
            event,
            version=self._places[event.version],
            shown=None if event.shown is None else self.shown(event.shown),
            member=None if event.member is None else self.shown(event.member),
        )

    def shown(self, shown: T) -> T:
        assert isinstance(shown, Shown | ShownMember)
        return msgspec.structs.replace(shown, version=self._places[shown.version])

    def record(self, record: Record | None) -> Record | None:
        if record is None:
            return None
        mine = self.stand.store.incarnation_for(record.user)
        return msgspec.structs.replace(
            record,
            shown=self.shown(record.shown),
            members={room: self.shown(member) for room, member in record.members.items()},
            shares={Incarnation(MAIN) if inc == mine else inc: share for inc, share in record.shares.items()},
            epoch=0,
        )


class ThreeStores(RuleBasedStateMachine):
    """One node tells three stores the same; in some steps a second node does too, and dies."""

    place: SharedPlace

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.accounts = self.run(self.begin())
        memory = self.accounts["memory"].stand.store
        assert isinstance(memory, MemoryStore)
        self.memory = memory
        self.desk = Desk(self.memory, self.clock)
        self.elsewhere = Desk(self.memory, self.clock)
        self.told: dict[UserId, Contribution] = {}
        """The last one of each user."""
        self.neighbours = 0

    async def begin(self) -> dict[str, Account]:
        kinds: dict[str, Make] = {"memory": make_memory, "sqlite": make_sqlite, SHARED: self.place.empty()}
        names = {SHARED: MAIN.rpartition(".")[0]}  # a process; its incarnations are numbered
        found = {}
        for kind, make in kinds.items():
            stand = Stand(make, Path(self.folder.name), self.clock, KEPT)
            await stand.start(Incarnation(names.get(kind, MAIN)))
            if isinstance(stand.store, LocalStore):
                # who serves one node tells no other of a ghost: such a notice would leave a hole in the log
                stand.store.ledger._supersede = lambda *_: None  # type: ignore[method-assign]
            found[kind] = Account(stand)
        return found

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(doing)

    def each(self, do: Callable[[Account], Awaitable[Outcome | list[Event]]], *, again: bool = False) -> list[Event]:
        """Do it with every store; the same has to come of it.

        Args:
            do: with one of them.
            again: one of the stores hears of all this for the second time: the node is told there what it has.
        """

        async def everywhere() -> list[tuple[str, list[Event], tuple[tuple[UserId, ConnectionSummary], ...]]]:
            found = []
            for kind, account in self.accounts.items():
                told = await do(account)
                outcome = Outcome(told) if isinstance(told, list) else told
                events, inherited = outcome.events, tuple(outcome.inherited)
                found.append((kind, account.heard(events), inherited))
            return found

        (_, events, inherited), *others = self.run(everywhere())
        for kind, their_events, their_inherited in others:
            assert events == their_events, kind
            assert again or inherited == their_inherited, kind
        for user, c in inherited:
            if c.id in (mine := self.desk.connections.get(user, {})):
                mine[c.id] = msgspec.structs.replace(mine[c.id], availability=c.availability, meta=c.meta)
        return events

    def put(self, *told: Contribution, again: bool = False) -> list[Event]:
        self.told.update((each.user, each) for each in told)
        return self.each(lambda account: account.stand.desk.put(*told), again=again)

    def tick(self) -> None:
        async def beat(account: Account) -> Outcome:
            if account.stand.place is not None:
                await account.stand.store.beat()
            return await account.stand.store.sweep()

        self.each(beat)
        store, due = self.accounts[SHARED].stand.store, self.memory.next_deadline()
        assert list(self.run(store.sweep()).events) == []  # sees what the first one reaped
        assert store.next_deadline() == min(LEASE, LEASE if due is None else due)

    def some(self, data: st.DataObject, desk: Desk, user: UserId) -> ConnectionSummary | None:
        there = list(desk.connections.get(user, {}).values())
        return data.draw(st.sampled_from(there)) if there else None

    # -- the node -------------------------------------------------------------------------------------------------

    @rule(user=users, tab=tabs, session=st.sampled_from("xy"), ready=st.sampled_from(READY), state=states)
    def connect(self, user: UserId, tab: TabId, session: str, ready: ReadyState, state: dict[str, Any]) -> None:
        self.desk.add(user, tab, session, ready=ready, **state)
        self.put(self.desk.told(user))

    @rule(user=users, data=st.data(), ready=st.sampled_from(READY[1:]), state=states)
    def change(self, user: UserId, data: st.DataObject, ready: ReadyState, state: dict[str, Any]) -> None:
        if (c := self.some(data, self.desk, user)) is not None:
            self.desk.connections[user][c.id] = msgspec.structs.replace(c, ready=ready, **state)
            self.put(self.desk.told(user))

    @rule(user=users, data=st.data(), cause=st.sampled_from(CAUSES), ago=st.sampled_from((0.0, 1.0, 5.0)))
    def end(self, user: UserId, data: st.DataObject, cause: Cause, ago: float) -> None:
        if (c := self.some(data, self.desk, user)) is not None:
            del self.desk.connections[user][c.id]
            self.put(self.desk.told(user, [self.desk.ending(c, cause, POLICY.window(cause), ago)]))

    @rule(user=users, cause=st.sampled_from((Cause.KICKED, Cause.REVOKED)))
    def dismiss(self, user: UserId, cause: Cause) -> None:
        """All that this node has of a user ends, and with it every window: also of one it has nothing of."""
        mine = self.desk.connections.pop(user, {})
        everybody = Ending(ConnectionId(""), SessionId(""), TabId(""), cause, 0.0, 0.0)
        self.put(self.desk.told(user, [*(self.desk.ending(c, cause, 0.0) for c in mine.values()), everybody]))

    @rule(user=users, tab=tabs, room=st.sampled_from((LOBBY, ATTIC)))
    def leave(self, user: UserId, tab: TabId, room: RoomName) -> None:
        self.put(self.desk.told(user, leaves=[Leave(tab, room)]))

    @rule(some=st.lists(st.tuples(users, tabs), min_size=2, max_size=4))
    def connect_many(self, some: list[tuple[UserId, TabId]]) -> None:
        for user, tab in some:
            self.desk.add(user, tab)
        self.put(*(self.desk.told(user) for user in dict(some)))

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """What a node does that got no answer."""
        last = self.told[data.draw(st.sampled_from(sorted(self.told)))]
        self.each(lambda account: account.stand.desk.put(last))

    @rule(kind=st.sampled_from((NoticeKind.DISMISSED, NoticeKind.DRAIN)))
    def notify(self, kind: NoticeKind) -> None:
        async def say(account: Account) -> list[Event]:
            await account.stand.store.notify(kind, "n9", ALICE, "kicked", "spam")
            return []

        self.each(say)

    # -- time -----------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((0.5, 2.0, 9.0, 31.0)))
    def wait(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + 1.0)
            self.tick()

    @rule(seconds=st.sampled_from((100.0, 3600.0, -40.0, -0.125)))
    def jump(self, seconds: float) -> None:
        self.clock.now += seconds
        self.tick()

    # -- another node ---------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.alive)
    @rule(lease=st.sampled_from((5.0, 40.0)))
    def another_node_comes(self, lease: float) -> None:
        self.neighbours += 1
        self.elsewhere = Desk(self.memory, self.clock)

        async def join(account: Account) -> list[Event]:
            account.neighbour = account.stand.neighbour(f"n2.{self.neighbours}")
            await account.neighbour.join(lease)
            return []

        self.each(join)

    @property
    def alive(self) -> bool:
        return self.accounts[SHARED].neighbour is not None

    def put_elsewhere(self, told: Contribution) -> list[Event]:
        async def tell(account: Account) -> list[Event]:
            assert account.neighbour is not None
            return await account.neighbour.put(told)

        return self.each(tell)

    @precondition(lambda self: self.alive)
    @rule(user=users, tab=tabs, session=st.sampled_from("xy"), state=states)
    def connect_elsewhere(self, user: UserId, tab: TabId, session: str, state: dict[str, Any]) -> None:
        c = self.elsewhere.add(user, tab, session, **state)
        del self.elsewhere.connections[user][c.id]
        c = msgspec.structs.replace(c, id=ConnectionId(f"n2.{self.neighbours}.{c.id}"))
        self.elsewhere.connections[user][c.id] = c
        self.put_elsewhere(self.elsewhere.told(user))

    @precondition(lambda self: self.alive)
    @rule(user=users, data=st.data(), cause=st.sampled_from(CAUSES), ago=st.sampled_from((0.0, 1.0, 5.0)))
    def end_elsewhere(self, user: UserId, data: st.DataObject, cause: Cause, ago: float) -> None:
        if (c := self.some(data, self.elsewhere, user)) is not None:
            del self.elsewhere.connections[user][c.id]
            self.put_elsewhere(self.elsewhere.told(user, [self.elsewhere.ending(c, cause, POLICY.window(cause), ago)]))

    @precondition(lambda self: self.alive)
    @rule(how=st.sampled_from(("beats", "is retired", "drains")))
    def another_node(self, how: str) -> None:
        """It beats, with or without success; or goes, to be reaped by the next sweep."""
        answers = []

        async def do(account: Account) -> list[Event]:
            assert account.neighbour is not None
            if how != "beats":
                cause = Cause.NODE_LOST if how == "is retired" else Cause.NODE_DRAIN
                await account.stand.store.retire(account.neighbour.incarnation, cause)
            answers.append(await account.neighbour.beat(5.0))
            if answers[-1] != "OK":
                await account.neighbour.close()
                account.neighbour = None
            return []

        self.each(do)
        assert len(set(answers)) == 1

    # -- a failover -----------------------------------------------------------------------------------------------

    def nobody_will_differ(self) -> bool:
        """What the shared store alone does after a failover does not arise.

        Whoever is back from a window of an epoch that was lost is told again. Whom a node carried that is dead, and not
        reaped yet, is doubtful. Of two connections of a tab, which the nodes end at once, the second one that is told
        takes over from the other. And a connection that is told again counts as the return of its tab or session.
        """
        ledger = self.memory.ledger.state
        alive = {inc for inc, deadline in ledger.leases.items() if deadline > ledger.clock.value}
        return all(
            record.phase is not Phase.HELD
            and alive.issuperset(record.shares)
            and len(active := [c for _, c in record.connections() if c.ready.active]) == len({c.tab for c in active})
            and not {name for c in active for name in (c.tab, c.session)}
            & {name for gone in record.gone for name in (gone.tab, gone.session)}
            for record in self.run(self.records())
            if record is not None
        )

    async def records(self) -> list[Record | None]:
        return [await self.memory.record(user) for user in USERS]

    @precondition(lambda self: self.nobody_will_differ())
    @rule()
    def fail_over(self) -> None:
        """Another process of the server, with all the data: the nodes tell everything again, and nobody flips."""
        shared = self.accounts[SHARED]
        self.run(self.come_again(shared))
        told = [self.desk.told(user) for user, mine in self.desk.connections.items() if mine]
        if told:
            assert self.put(*told, again=True) == []
        if self.alive:
            for user, theirs in self.elsewhere.connections.items():
                if theirs:
                    assert self.put_elsewhere(self.elsewhere.told(user)) == []
        self.run(self.settle(shared))
        self.tick()

    async def come_again(self, shared: Account) -> None:
        await shared.logged()
        self.place.fail_over()
        if shared.neighbour is not None:
            shared.neighbour.hang_up()
        while True:
            try:
                await shared.stand.store.beat()
            except StoreUnavailable:
                continue
            except Fenced:
                break
        await shared.stand.store.rejoin()

    async def settle(self, shared: Account) -> None:
        if shared.neighbour is not None:
            await shared.neighbour.asserted()
        await shared.stand.store.settled()
        while True:  # the line for questions finds out for itself, or the reader of the log has found out before
            with contextlib.suppress(StoreUnavailable):
                await shared.stand.epoch_is_read()
                break
        shared.cursor = await shared.stand.store.tip()

    # -- what has to be the same ------------------------------------------------------------------------------------

    @invariant()
    def answers_are_the_same(self) -> None:
        first, *others = self.run(self.answers())
        for other in others:
            for question, answer in first.items():
                assert answer == other[question], question

    async def answers(self) -> list[dict[str, object]]:
        return [await self.answers_of(account) for account in self.accounts.values()]

    async def answers_of(self, account: Account) -> dict[str, object]:
        await account.logged()
        store = account.stand.store
        await store.beat()
        snapshot = await store.snapshot(USERS)
        assert snapshot.doubtful == snapshot.unknown == frozenset()
        page = await store.page("", 10, "", None)
        figures = store.statistics()
        found: dict[str, object] = {
            "snapshot": {user: account.shown(shown) for user, shown in snapshot.users.items()},
            "page": ({user: account.record(record) for user, record in page.users}, page.cursor),
            "rooms": await store.rooms("", 10),
            "figures": (figures.users_known, figures.users_present, figures.windows_pending, figures.rooms),
        }
        for room in (LOBBY, ATTIC):
            members = (await store.room(room)).members
            found[room] = {user: account.shown(member) for user, member in members.items()}
        for user in USERS:
            found[f"record of {user}"] = account.record(await store.record(user))
            entries = (await store.timeline(user, 0.0, 1e12, 300)).entries
            # what nodes told is compared elsewhere: after a failover it is told again, to a shared store alone
            found[f"timeline of {user}"] = [account.event(entry) for entry in entries if not isinstance(entry, Given)]
        return found

    def teardown(self) -> None:
        async def stop() -> None:
            for account in self.accounts.values():
                if account.neighbour is not None:
                    await account.neighbour.close()
                await account.stand.store.stop()

        self.run(stop())
        self.runner.close()
        self.folder.cleanup()


@pytest.mark.parametrize("server", SERVERS)
def test_all_stores_give_the_same_answers_after_every_step(
    server: str, places: Places, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follow, "_BACK_OFF", 0.005)  # failovers are frequent here
    caplog.set_level(logging.ERROR, "stillhere.store")  # and each is worth a warning

    class OnThisServer(ThreeStores):
        place = places.of(server)

    run_state_machine_as_test(
        OnThisServer, settings=settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None)
    )
