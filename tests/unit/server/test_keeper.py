"""What a node owes its store, also while the store fails."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from stillhere.core.events import Notice, NoticeKind
from stillhere.core.grace import GracePolicy
from stillhere.core.roster import Roster
from stillhere.core.words import Cause, Incarnation, UserId
from stillhere.server.eventlog import EventLog
from stillhere.server.keeper import GATHER, Keeper
from stillhere.server.metrics import Metrics
from stillhere.server.neighbours import heed
from stillhere.server.tasks import Tasks
from stillhere.store.memory import MemoryStore
from tests.unit.server.world import World, lived


@lived()
async def test_what_one_turn_changed_is_put_in_one_request(world: World) -> None:
    verdicts = [world.greet(f"u{i}") for i in range(50)]
    world.store.puts.clear()
    for verdict in verdicts:
        world.open(verdict)  # type: ignore[arg-type]  # nothing is awaited here
    await world.settle()
    assert [len(contributions) for contributions in world.store.puts] == [50]


@lived()
async def test_who_comes_alone_does_not_wait_and_who_comes_just_after_is_put_with_the_others(world: World) -> None:
    world.node.keeper.gather = GATHER
    await world.pass_time(1)
    world.store.puts.clear()
    for name in "abcd":
        world.open(world.greet(name))  # type: ignore[arg-type]  # nothing is awaited here
        await world.settle()
    assert [[told.user for told in put] for put in world.store.puts] == [["a"]]
    await world.pass_time(GATHER)
    assert [[told.user for told in put] for put in world.store.puts] == [["a"], ["b", "c", "d"]]
    assert all(client.frames[0]["type"] == "welcome" for client in world.clients)


@lived()
async def test_nobody_is_judged_before_what_is_gathered_is_told(world: World) -> None:
    ann = await world.connect("ann", tab="t")
    world.node.keeper.gather = 60.0
    world.open(world.greet("bob"))  # type: ignore[arg-type]  # puts at once
    await world.settle()
    ann.leave(1001)
    await world.connect("ann", tab="t")
    await world.pass_time(20)
    assert "PRESENCE_OFFLINE" not in world.events()


def test_a_node_on_the_real_clock_gathers_and_one_on_a_clock_that_is_turned_by_hand_does_not() -> None:
    def keeper(monotonic: Callable[[], float]) -> Keeper:
        store, roster = MemoryStore(time.time), Roster(GracePolicy.of())
        return Keeper(store, roster, Tasks(), Metrics(), EventLog("n1"), beat=1.0, monotonic=monotonic)

    assert keeper(time.monotonic).gather == GATHER
    assert keeper(lambda: 0.0).gather == 0.0


@lived({"limits.connections": 2000})
async def test_a_large_change_is_put_in_parts(world: World) -> None:
    for i in range(1100):
        world.open(world.greet(f"u{i}"))  # type: ignore[arg-type]  # nothing is awaited here
    await world.settle(30)
    assert [len(contributions) for contributions in world.store.puts] == [500, 500, 100]
    assert all(client.frames for client in world.clients)


@lived()
async def test_a_put_that_failed_is_repeated_until_it_is_acknowledged(world: World) -> None:
    world.store.failing = True
    ann = await world.connect("ann")
    await world.pass_time(2)
    assert len(world.store.puts) >= 5
    assert world.metric("stillhere_store_errors_total") >= 5
    world.store.failing = False
    await world.pass_time(1)
    puts = len(world.store.puts)
    assert ann.frames[0]["type"] == "welcome"
    await world.pass_time(10)
    assert len(world.store.puts) == puts, "what is acknowledged is not put again"


@lived()
async def test_what_changes_while_the_store_fails_is_put_as_it_is_then(world: World) -> None:
    ann = await world.connect("ann")
    bob = await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    world.store.failing = True
    ann.take()
    for i, availability in enumerate(("away", "busy", "away", "busy")):
        ann.say("state", id=i, availability=availability)
        await world.pass_time(1)
    assert ann.take() == [] and bob.take() == []
    assert world.node.ready == "the store is not reachable: the disk is full"
    assert not world.node.statistics().store_reachable
    world.store.failing = False
    await world.pass_time(2)
    assert [answer["id"] for answer in ann.take()] == [0, 1, 2, 3]
    statuses = [change["status"] for frame in bob.take() for change in frame["changes"]]
    assert statuses[-1] == "busy"
    assert world.node.ready is None


@lived()
async def test_readiness_does_not_say_yes_between_two_failures(world: World) -> None:
    await world.connect("ann")
    world.store.failing = True
    world.clients[0].say("state", availability="away")
    await world.settle()
    for _ in range(60):
        await world.pass_time(0.11)
        assert world.node.ready is not None


@lived()
async def test_nobody_is_shown_offline_because_the_store_fails(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    world.store.failing = True
    await world.pass_time(120)
    world.store.failing = False
    await world.pass_time(60)
    assert bob.take() == [] and ann.code() is None


@lived()
async def test_a_window_is_measured_from_the_end_although_the_store_heard_of_it_late(world: World) -> None:
    ann = await world.connect("ann")
    world.store.failing = True
    ann.leave(1001)
    await world.pass_time(5)
    world.store.failing = False
    await world.pass_time(2.5)
    assert world.shown("ann") == "online"
    await world.pass_time(1)
    assert world.shown("ann") == "offline"


@lived()
async def test_a_window_ends_within_a_moment_of_its_deadline(world: World) -> None:
    for i in range(20):
        ann = await world.connect(f"u{i}")
        await world.pass_time(0.13)
        ann.leave(1001)
    begin = world.clock.elapsed
    while world.shown("u19") != "offline":
        await world.pass_time(0.01)
    assert 7.99 <= world.clock.elapsed - begin <= 8.05


@lived()
async def test_a_new_node_is_known_before_the_next_beat_is_due(world: World) -> None:
    """Its address is wanted as soon as the store is lost, and that may be soon."""
    world.store.share()
    await world.pass_time(12)
    at = world.node.keeper.renewed_at
    assert world.clock.elapsed - at < 5.0
    heed(world.node, Notice(NoticeKind.JOINED, 1, world.clock.now(), "n2-0"))
    await world.settle()
    assert world.node.keeper.renewed_at == world.clock.elapsed > at
    heed(world.node, Notice(NoticeKind.JOINED, 2, world.clock.now(), world.node.incarnation))
    await world.pass_time(2)
    assert world.node.keeper.renewed_at == world.clock.elapsed - 2, "its own coming is no news"


@lived()
async def test_the_lease_is_renewed_in_time(world: World) -> None:
    beats = 0
    beat = world.store.beat

    async def counted():  # type: ignore[no-untyped-def]  # as the store's
        nonlocal beats
        beats += 1
        return await beat()

    world.store.beat = counted  # type: ignore[method-assign]  # to count
    await world.pass_time(60)
    assert 11 <= beats <= 13


@lived()
async def test_a_node_that_is_fenced_says_so(world: World) -> None:
    await world.store.retire(world.node.incarnation, Cause.NODE_LOST)
    ann = await world.connect("ann")
    await world.pass_time(2)
    assert ann.frames == []
    assert world.node.ready is not None and "has no lease" in world.node.ready
    assert "lease_lost" in world.events()
    world.store.ledger.state.dead.clear()
    world.store.ledger.join(world.clock.now(), Incarnation(world.node.incarnation), 1, 1e10)


@lived()
async def test_settling_waits_for_the_acknowledgement_but_not_for_ever(world: World) -> None:
    await world.connect("ann")
    world.store.hold()
    world.clients[0].say("state", availability="away")
    begin = world.clock.elapsed
    await world.node.keeper.settle(2.0)
    assert 2.0 <= world.clock.elapsed - begin < 2.1
    world.store.release()
    await world.node.keeper.settle(2.0)
    assert world.clock.elapsed - begin < 2.2


@pytest.mark.parametrize("times", [1, 3])
@lived()
async def test_a_store_that_refuses_a_put_at_once_is_asked_again(world: World, times: int) -> None:
    from stillhere.store.contract import StoreUnavailable

    put = world.store.put
    refused = 0

    def refusing(contributions):  # type: ignore[no-untyped-def]  # as the store's
        nonlocal refused
        if refused < times:
            refused += 1
            raise StoreUnavailable("no connection")
        return put(contributions)

    world.store.put = refusing  # type: ignore[method-assign]  # a store that raises before the first await
    ann = await world.connect("ann")
    assert ann.frames == []
    await world.pass_time(1 + times)
    assert ann.frames[0]["type"] == "welcome" and world.shown("ann") == "online"


@lived()
async def test_an_acknowledgement_of_something_older_answers_nothing_newer(world: World) -> None:
    ann = await world.connect("ann")
    done: list[str] = []
    world.store.hold()
    ann.say("state", id=1, availability="away")
    await world.settle()
    world.node.keeper.when_acknowledged(UserId("ann"), lambda: done.append("first"))
    first = world.store._held
    world.store.hold()
    ann.say("state", id=2, availability="busy")
    world.node.keeper.when_acknowledged(UserId("ann"), lambda: done.append("second"))
    await world.settle()
    assert first is not None
    first.set()
    await world.settle()
    assert done == ["first"]
    world.store.release()
    await world.settle()
    assert done == ["first", "second"]
