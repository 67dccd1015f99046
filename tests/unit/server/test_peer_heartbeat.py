"""Is the path alive, and is the page?"""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.server.world import Client, World, lived


async def seconds_until_ping(world: World, client: Client) -> float:
    begin, pings = world.clock.elapsed, client.pings
    while client.pings == pings:
        await world.pass_time(0.05)
        assert world.clock.elapsed < begin + 60
    return world.clock.elapsed - begin


@lived()
async def test_a_ping_is_sent_after_20_seconds_of_silence_give_or_take_a_tenth(world: World) -> None:
    times = []
    for i in range(20):
        client = await world.connect(f"u{i}")
        times.append(await seconds_until_ping(world, client))
    assert all(17.9 <= time <= 22.6 for time in times)
    assert max(times) - min(times) > 0.5, "they are jittered"


@pytest.mark.parametrize("what", ["text", "binary", "pong", "ping"])
@lived()
async def test_any_traffic_postpones_the_ping(world: World, what: str) -> None:
    ann = await world.connect("ann")
    for _ in range(20):
        await world.pass_time(10)
        if what == "text":
            ann.say("ping")
        elif what == "binary":
            ann.peer.on_binary(bytes(1))
        else:
            ann.peer.on_heard()
    assert ann.pings == 0 and ann.code() is None


@lived()
async def test_an_answered_ping_keeps_the_connection_and_its_time_is_measured(world: World) -> None:
    ann = await world.connect("ann")
    await world.pass_time(300)
    assert ann.code() is None and 13 <= ann.pings <= 16
    assert world.metric("stillhere_ping_rtt_seconds_count") == ann.pings


@lived()
async def test_a_missed_answer_closes_with_4201_and_aborts(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    ann.answers_pings = ann.polite = False
    await seconds_until_ping(world, ann)
    await world.pass_time(9.5)
    assert ann.code() is None
    await world.pass_time(1)
    assert ann.closed == (4201, "no answer to a ping") and ann.aborted() and ann.lost
    assert world.fields("grace_started")["cause"] == "heartbeat_lost"
    assert bob.take() == []
    await world.pass_time(10.5)
    (frame,) = bob.take()
    assert frame["changes"][0]["status"] == "offline"
    assert world.metric("stillhere_disconnects_total", cause="heartbeat_lost", code="4201") == 1


@pytest.mark.parametrize("what", ["text", "binary", "pong"])
@lived()
async def test_anything_at_all_answers_a_ping(world: World, what: str) -> None:
    ann = await world.connect("ann")
    ann.answers_pings = False
    for _ in range(5):
        await seconds_until_ping(world, ann)
        await world.pass_time(9)
        if what == "text":
            ann.say("ping")
        elif what == "binary":
            ann.peer.on_binary(bytes(1))
        else:
            ann.peer.on_heard()
    assert ann.code() is None


@lived()
async def test_a_stall_of_the_process_closes_nobody(world: World) -> None:
    clients = [await world.connect(f"u{i}") for i in range(20)]
    for client in clients:
        client.answers_pings = False
    while not any(client.pings for client in clients):
        await world.pass_time(0.25)
    await world.pass_time(5)
    for client in clients:
        client.answers_pings = True
    world.clock.elapsed += 300
    for client in clients:  # what arrived during the pause is read before anybody is judged
        if client.pings:
            world.loop.call_soon(client.peer.on_heard)
    await world.pass_time(60)
    assert [client.code() for client in clients] == [None] * 20
    assert world.node.wheel.stalled > 290


@lived()
async def test_a_transport_without_pings_is_left_in_peace(world: World) -> None:
    """It watches the path itself; asking it over and over would cost four calls a second for each connection."""
    ann = await world.connect("ann")
    ann.has_pings = False
    asked = 0

    def ping() -> bool:
        nonlocal asked
        asked += 1
        return False

    ann.ping = ping  # type: ignore[method-assign]  # to count
    await world.pass_time(600)
    assert ann.code() is None
    assert asked < 40


# -- the page -------------------------------------------------------------------------------------------------------


async def probing(world: World, user: str = "ann", **fields: Any) -> Client:
    client = await world.connect(user, query={"probe": "1"})
    if fields:
        await client.ask("state", **fields)
    return client


async def answer_probes(world: World, client: Client, seconds: int) -> None:
    answered = len(client.of("probe"))
    for _ in range(seconds):
        await world.pass_time(1)
        for frame in client.of("probe")[answered:]:
            client.say("probe", n=frame["n"])
            answered += 1


@lived()
async def test_a_page_that_asked_for_it_is_probed_every_30_seconds(world: World) -> None:
    ann = await probing(world)
    await answer_probes(world, ann, 29)
    assert len(ann.of("probe")) == 0
    await answer_probes(world, ann, 2)
    assert len(ann.of("probe")) == 1
    await answer_probes(world, ann, 270)
    assert 9 <= len(ann.of("probe")) <= 10
    assert world.shown("ann") == "online"


@lived()
async def test_nobody_else_is_probed(world: World) -> None:
    ann = await world.connect("ann")
    await world.pass_time(300)
    assert ann.of("probe") == [] and world.shown("ann") == "online"


@lived()
async def test_two_missed_probes_make_away_and_an_answer_makes_it_as_before(world: World) -> None:
    ann, bob = await probing(world), await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    await world.pass_time(85)
    assert len(ann.of("probe")) == 2 and world.shown("ann") == "online"
    await world.pass_time(10)
    assert world.shown("ann") == "away"
    await world.pass_time(600)
    assert world.shown("ann") == "away", "never offline"
    ann.say("probe", n=3)
    await world.settle()
    assert world.shown("ann") == "online"
    assert [c["status"] for f in bob.take() if f["type"] == "presence" for c in f["changes"]] == ["away", "online"]


@pytest.mark.parametrize(("stated", "asleep"), [("busy", "away"), ("invisible", "offline"), ("away", "away")])
@lived()
async def test_a_page_that_wakes_is_shown_as_it_had_stated(world: World, stated: str, asleep: str) -> None:
    ann = await probing(world, availability=stated)
    before = world.shown("ann")
    await world.pass_time(100)
    assert world.shown("ann") == asleep
    ann.say("probe", n=3)
    await world.settle()
    assert world.shown("ann") == before


@lived()
async def test_what_a_page_states_while_it_counts_as_asleep_holds(world: World) -> None:
    ann = await probing(world)
    await world.pass_time(100)
    await ann.ask("state", availability="busy")
    assert world.shown("ann") == "busy"
    ann.say("probe", n=3)
    await world.settle()
    assert world.shown("ann") == "busy"
    assert not world.node._asleep


@lived()
async def test_one_missed_probe_is_nothing(world: World) -> None:
    ann = await probing(world)
    await world.pass_time(65)
    ann.say("probe", n=1)
    await world.pass_time(50)
    ann.say("probe", n=1)
    await world.pass_time(50)
    assert world.shown("ann") == "online"


@lived()
async def test_an_answer_that_nobody_asked_for_is_nothing(world: World) -> None:
    ann, bob = await probing(world), await world.connect("bob")
    for client in (ann, bob):
        assert await client.ask("probe", n=7) == []
    await world.pass_time(95)
    assert world.shown("ann") == "away" and world.shown("bob") == "online"


@lived()
async def test_a_tab_that_reconnects_while_it_counts_as_asleep_is_awake(world: World) -> None:
    """Frozen pages lose their sockets: what the server presumed must not be inherited as if the page had said it."""
    ann = await world.connect("ann", tab="t", query={"probe": "1"})
    await world.pass_time(100)
    assert world.shown("ann") == "away"
    await world.connect("ann", tab="t", query={"probe": "1"})
    assert ann.code() is not None and world.shown("ann") == "online"
