"""Notices that fell into a gap of the log: their meaning is found in the records."""

from __future__ import annotations

import asyncio
import random
from typing import cast

import pytest

from stillhere.core.leases import Answer
from stillhere.core.record import ConnectionSummary, Contribution, Ending, Record
from stillhere.core.words import Cause, ConnectionId, Incarnation, ReadyState, SessionId, TabId, UserId
from stillhere.server import after_gap
from stillhere.store.cluster.line import Engine, Line, Told
from stillhere.store.cluster.partition import Partition
from stillhere.store.contract import StoreUnavailable
from tests.unit.server.world import World, lived

OTHER = Incarnation("n2-0")


def elsewhere(world: World, told: Contribution) -> None:
    """Another node tells the store something."""
    ledger, now = world.store.ledger, world.clock.now()
    if OTHER not in ledger.state.leases:
        ledger.join(now, OTHER, 1, 3600.0)
    ledger.put(now, OTHER, 1, [told])
    ledger.take_events()


def kicked(world: World, user: str, cause: Cause = Cause.KICKED, revision: int = 1) -> None:
    """Another node was asked to kick somebody whom it does not have."""
    nobody = Ending(ConnectionId(""), SessionId(""), TabId(""), cause, 0.0, 0.0)
    elsewhere(world, Contribution(UserId(user), revision, (), (nobody,)))


def opened(world: World, user: str, tab: str, ready: ReadyState = ReadyState.OPEN) -> None:
    """A connection is open on another node."""
    connection = ConnectionSummary(
        ConnectionId(f"c-{tab}"), SessionId("s"), TabId(tab), ready, world.clock.now(), None, None
    )
    elsewhere(world, Contribution(UserId(user), 1, (connection,)))


async def gap(world: World) -> None:
    """The log no longer reaches back to where the node was."""
    world.node.after_gap.begin(0)
    await world.settle(40)


def shared(world: World) -> None:
    world.store.share()


@lived()
async def test_a_kick_that_fell_into_the_gap_closes_what_was_open_then(world: World) -> None:
    shared(world)
    ann, bob = await world.connect("ann", tab="t"), await world.connect("bob")
    await world.pass_time(1)
    kicked(world, "ann")
    at = world.clock.now()
    await world.pass_time(5)
    later = await world.connect("ann", tab="u")
    assert ann.code() is None
    await gap(world)
    assert (ann.code(), later.code(), bob.code()) == (4004, None, None)
    assert world.metric("stillhere_disconnects_total", cause="kicked", code="4004") == 1
    await world.pass_time(1)
    departures = world.store.ledger.records[UserId("ann")].departures
    assert departures[-1].at == pytest.approx(at), "told as of the kick: it speaks for nothing that was opened since"
    assert world.shown("ann") == "online"


@lived()
async def test_the_clocks_of_nodes_do_not_decide_what_was_open_at_a_kick(world: World) -> None:
    shared(world)
    ann = await world.connect("ann", tab="t")
    await world.pass_time(1)
    kicked(world, "ann")
    await world.pass_time(5)
    later = await world.connect("ann", tab="u")
    assert ann.peer.connection is not None and later.peer.connection is not None
    ann.peer.connection.opened_at += 1200.0
    later.peer.connection.opened_at -= 1200.0
    await gap(world)
    assert (ann.code(), later.code()) == (4004, None)


@lived()
async def test_what_was_open_before_a_loss_was_there_at_a_kick_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared(world)
    await world.pass_time(100)
    ann = await world.connect("ann")
    assert ann.peer.known_since is not None
    ann.peer.known_since += 900.0
    kicked(world, "ann")
    await gap(world)
    assert ann.code() is None
    clock = world.store.clock
    monkeypatch.setattr(world.store, "clock", lambda partition: (clock(partition)[0], 900.0))
    await world.pass_time(1)
    await gap(world)
    assert ann.code() == 4004


@lived()
async def test_a_connection_that_the_store_does_not_know_of_yet_goes_by_the_time_at_which_it_was_opened(
    world: World,
) -> None:
    shared(world)
    ann = await world.connect("ann", tab="t")
    await world.pass_time(1)
    kicked(world, "ann")
    await world.pass_time(5)
    later = await world.connect("ann", tab="u")
    ann.peer.known_since = later.peer.known_since = None
    await gap(world)
    assert (ann.code(), later.code()) == (4004, None)


def test_a_reader_may_be_the_first_to_hear_that_the_store_clock_began_anew() -> None:
    partition = Partition(cast(Engine, None), 0, random.Random(1), lambda user: True, 10.0)
    partition._asking = cast(Line, object())

    async def answer(clock: float, born: int) -> Told:
        return Told(answer=Answer.OK, epoch=born, seq=1, clock=clock, born=born)

    async def hear() -> None:
        await partition._run(answer(37.0, 1))
        await partition.ask(lambda line: answer(18.0, 2))
        assert (partition.clock, partition.before) == (18.0, 37.0)
        await partition._run(answer(19.0, 2))

    asyncio.run(hear())
    assert (partition.clock, partition.before) == (19.0, 37.0)


@pytest.mark.parametrize(
    ("ran", "clock", "born", "before"), [(100.0, 0.5, 2, 100.0), (9.0, 7.0, 1, 0.0), (9.0, 7.0, 2, 9.0)]
)
def test_a_store_clock_that_begins_anew_is_noticed_and_a_failover_is_not_taken_for_it(
    ran: float, clock: float, born: int, before: float
) -> None:
    partition = Partition(cast(Engine, None), 0, random.Random(1), lambda user: True, 10.0)

    async def answer(clock: float, born: int) -> Told:
        return Told(answer=Answer.OK, epoch=born, seq=1, clock=clock, born=born)

    async def hear() -> None:
        for told in ((ran, 1), (clock, born)):
            await partition._run(answer(*told))

    asyncio.run(hear())
    assert (partition.clock, partition.before) == (clock, before)


@lived()
async def test_a_revocation_counts_like_a_kick_and_a_log_out_elsewhere_does_not(world: World) -> None:
    shared(world)
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await world.pass_time(1)
    kicked(world, "ann", Cause.REVOKED)
    kicked(world, "bob", Cause.BYE)
    await gap(world)
    assert (ann.code(), bob.code()) == (4004, None)


@lived()
async def test_a_newer_connection_of_the_tab_on_another_node_supersedes(world: World) -> None:
    shared(world)
    ann, other = await world.connect("ann", tab="t"), await world.connect("ann", tab="u")
    await world.pass_time(1)
    opened(world, "ann", "t")
    await gap(world)
    assert (ann.code(), other.code()) == (4005, None)


@lived()
async def test_an_older_connection_of_the_tab_on_another_node_does_not(world: World) -> None:
    shared(world)
    opened(world, "ann", "t")
    await world.pass_time(1)
    ann = await world.connect("ann", tab="t")
    await gap(world)
    assert ann.code() is None


@lived()
async def test_an_upgrade_on_another_node_that_is_not_granted_yet_does_not(world: World) -> None:
    shared(world)
    ann = await world.connect("ann", tab="t")
    await world.pass_time(1)
    opened(world, "ann", "t", ReadyState.CONNECTING)
    await gap(world)
    assert ann.code() is None


@lived(log_kept=3)
async def test_a_log_that_was_trimmed_before_it_was_read_is_such_a_gap(world: World) -> None:
    shared(world)
    ann = await world.connect("ann")
    bob = await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    await world.pass_time(1)
    world.store.unreadable = True
    kicked(world, "ann")
    for i in range(6):
        await world.connect(f"u{i}")
    await world.pass_time(1)
    assert ann.code() is None
    world.store.unreadable = False
    await world.pass_time(2)
    assert ann.code() == 4004 and bob.code() is None


@lived()
async def test_a_store_that_does_not_answer_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shared(world)
    ann = await world.connect("ann")
    await world.pass_time(1)
    kicked(world, "ann")
    record, failures = world.store.record, iter([True, True])

    async def seldom(user: UserId) -> Record | None:
        if next(failures, False):
            raise StoreUnavailable("gone")
        return await record(user)

    monkeypatch.setattr(world.store, "record", seldom)
    await gap(world)
    assert ann.code() is None
    await world.pass_time(2 * after_gap.RETRY + 0.1)
    assert ann.code() == 4004


@lived()
async def test_there_is_one_pass_at_a_time_and_a_gap_during_it_is_looked_after_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared(world)
    for i in range(6):
        await world.connect(f"u{i}")
    monkeypatch.setattr(after_gap, "BATCH", 2)
    asked: list[tuple[float, str]] = []
    record, busy = world.store.record, []

    async def counted(user: UserId) -> Record | None:
        asked.append((round(world.clock.elapsed, 2), user))
        busy.append(user)
        assert len(busy) == 1, "records are asked for one after the other"
        found = await record(user)
        busy.clear()
        return found

    monkeypatch.setattr(world.store, "record", counted)
    begin = world.clock.elapsed
    for _ in range(3):
        await gap(world)
    await world.pass_time(1)
    assert [user for _, user in asked] == 2 * [f"u{i}" for i in range(6)]
    assert [round(at - begin, 2) for at, _ in asked[:6]] == [0, 0, 0.05, 0.05, 0.1, 0.1], "in batches, with a pause"


@lived()
async def test_a_store_that_serves_one_node_is_not_asked(world: World) -> None:
    ann = await world.connect("ann")
    kicked(world, "ann")
    await gap(world)
    assert ann.code() is None
