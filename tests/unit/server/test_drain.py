"""Emptying a node: announced, paced, jittered; and its end."""

from __future__ import annotations

import asyncio
import itertools

from stillhere.core.words import UserId
from stillhere.server.socket import Welcome
from tests.unit.server.world import World, lived


@lived()
async def test_a_draining_node_takes_no_new_connections(world: World) -> None:
    draining = asyncio.ensure_future(world.node.drain(10))
    await world.settle()
    refusal = await world.refused("ann")
    assert refusal.status == 503 and int(refusal.headers["Retry-After"]) > 0
    assert world.node.ready == "draining" and world.node.statistics().draining
    assert world.metric("stillhere_refused_upgrades_total", why="draining") == 1
    assert world.metric("stillhere_draining") == 1
    await draining


@lived()
async def test_everybody_is_told_when_to_reconnect_and_closed_at_that_time(world: World) -> None:
    clients = [await world.connect(f"u{i}") for i in range(40)]
    for client in clients:
        client.take()
    begin = world.clock.elapsed
    closed_at: dict[str, float] = {}
    draining = asyncio.ensure_future(world.node.drain(10))
    await world.settle()
    told = {}
    for client in clients:
        (moving,) = client.take()
        assert moving["type"] == "moving"
        told[client.id] = moving["reconnectInMs"] / 1000
    while not draining.done():
        for client in clients:
            if client.closed is not None:
                closed_at.setdefault(client.id, world.clock.elapsed - begin)
        await world.pass_time(0.01)
    assert {client.closed for client in clients} == {(1012, "this node is draining")}
    for id, at in closed_at.items():
        assert -0.05 <= told[id] - at <= 1.05, "a client reconnects after its close, not before"
    times = sorted(closed_at.values())
    assert 9.9 <= times[-1] <= 10.2
    assert max(b - a for a, b in itertools.pairwise(times)) < 0.5, "at a steady pace"
    jitter = {round(told[id] - at, 1) for id, at in closed_at.items()}
    assert len(jitter) > 4
    assert [client.id for client in sorted(clients, key=lambda c: closed_at[c.id])] != [c.id for c in clients]


@lived()
async def test_a_drained_user_is_held_for_the_window_of_node_drain(world: World) -> None:
    bob, ann = await world.connect("bob"), await world.connect("ann")
    await bob.ask("watch", users=["ann"])
    await world.node.drain(0)
    assert ann.code() == 1012 and bob.code() == 1012
    assert world.fields("grace_started")["windowMs"] == 45_000
    drained = world.fields("node_drained")
    assert drained["connections"] == 2
    await world.pass_time(44)
    assert world.shown("ann") == "online"


@lived()
async def test_a_client_that_does_not_answer_its_close_delays_the_drain_to_the_close_timeout_only(world: World) -> None:
    ann = await world.connect("ann")
    ann.polite = False
    begin = world.clock.elapsed
    await world.node.drain(1)
    assert 5.5 <= world.clock.elapsed - begin <= 6.6


@lived()
async def test_who_is_not_welcome_yet_is_closed_without_an_announcement(world: World) -> None:
    world.store.hold()
    ann, nobody = await world.connect("ann"), await world.connect(None)
    draining = asyncio.ensure_future(world.node.drain(1))
    await world.pass_time(1.5)
    assert ann.frames == [] and nobody.frames == []
    assert ann.code() == 1012 and nobody.code() == 1012
    world.store.release()
    await draining


@lived()
async def test_a_connection_that_opens_while_the_node_drains_is_moved_too(world: World) -> None:
    """Its upgrade was granted a moment before; nobody announced anything to it."""
    verdict = world.greet("ann")
    await world.connect("bob")
    draining = asyncio.ensure_future(world.node.drain(4))
    await world.pass_time(1)
    assert isinstance(verdict, Welcome)
    ann = world.open(verdict)
    await draining
    assert ann.code() == 1012


@lived()
async def test_stop_ends_everybody_and_the_store_knows(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect(None)
    await world.node.stop()
    await world.settle()
    assert ann.code() == 1012 and ann.aborted() and bob.aborted()
    record = world.store.ledger.records[UserId("ann")]
    assert record.active_count == 0 and record.grace is not None and record.grace.cause == "node_drain"
    assert not world.leftovers()


@lived()
async def test_stop_ends_an_upgrade_in_flight(world: World) -> None:
    world.greet("ann")
    await world.node.stop()
    assert world.shown("ann") == "offline" and world.node.roster.connections == {}
