"""Prometheus metrics: names and what moves them."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from stillhere.core.words import UserId
from tests.unit.server.world import World, lived


@lived()
async def test_gauges_say_what_is_now(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await world.connect("bob")
    await bob.ask("watch", users=["ann", "zoe"])
    await bob.ask("join", room="r")
    ann.leave(1001)
    await world.settle()
    now = {
        "stillhere_connections": 2,
        "stillhere_users": 1,
        "stillhere_users_present": 2,
        "stillhere_users_known": 2,
        "stillhere_grace_pending": 1,
        "stillhere_rooms": 1,
        "stillhere_topics": 3,
        "stillhere_store_reachable": 1,
        "stillhere_store_backlog": 0,
        "stillhere_draining": 0,
        "stillhere_loop_stalled_seconds": 0,
    }
    assert {name: world.metric(name) for name in now} == now


@lived()
async def test_counters_count_what_happened(world: World) -> None:
    bob = await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    for _ in range(2):
        ann = await world.connect("ann", tab="t")
        await world.pass_time(1)
        ann.leave(1001)
        await world.pass_time(2)
    await world.pass_time(10)
    counted = {
        ("stillhere_connects_total", ()): 3,
        ("stillhere_disconnects_total", (("cause", "going_away"), ("code", "1001"))): 2,
        ("stillhere_transitions_total", (("cause", "connection_open"), ("change", "PRESENCE_ONLINE"))): 2,
        ("stillhere_transitions_total", (("cause", "going_away"), ("change", "PRESENCE_OFFLINE"))): 1,
        ("stillhere_reconnect_gap_seconds_count", (("cause", "going_away"),)): 1,
        ("stillhere_false_offline_total", (("cause", "going_away"),)): 0,
        ("stillhere_messages_received_total", (("type", "watch"),)): 1,
        ("stillhere_frames_sent_total", (("type", "change"),)): 2,
        ("stillhere_broadcast_fanout_count", ()): 2,
    }
    assert {(name, labels): world.metric(name, **dict(labels)) for name, labels in counted} == counted
    assert world.metric("stillhere_ghost_seconds_total", cause="going_away") == pytest.approx(8, abs=0.1)
    assert world.metric("stillhere_reconnect_gap_seconds_sum", cause="going_away") == pytest.approx(2, abs=0.01)


@lived()
async def test_a_false_offline_counts_once_and_with_how_much_its_window_was_too_short(world: World) -> None:
    tabs = [await world.connect("ann", tab=tab) for tab in ("t1", "t2")]
    await world.pass_time(1)
    for ann in tabs:
        ann.leave(1001)
    await world.pass_time(12)
    for tab in ("t1", "t2"):
        await world.connect("ann", tab=tab)
    assert world.metric("stillhere_false_offline_total", cause="going_away") == 1
    assert world.metric("stillhere_window_too_short_seconds_count", cause="going_away") == 1
    assert world.metric("stillhere_window_too_short_seconds_sum", cause="going_away") == pytest.approx(4, abs=0.1)
    assert world.metric("stillhere_ghost_seconds_total", cause="going_away") == pytest.approx(8, abs=0.1)


@lived()
async def test_a_kick_in_a_window_ends_a_ghost_that_is_counted(world: World) -> None:
    ann = await world.connect("ann")
    ann.leave(1001)
    await world.pass_time(5)
    world.node.disconnect(UserId("ann"))
    await world.settle()
    assert world.metric("stillhere_ghost_seconds_total", cause="kicked") == pytest.approx(5, abs=0.1)


@lived()
async def test_who_is_invisible_is_no_ghost(world: World) -> None:
    ann = await world.connect("ann")
    await world.pass_time(3)
    await ann.ask("state", availability="invisible")
    ann.leave(1001)
    await world.pass_time(20)
    for cause in ("invisible", "going_away"):
        assert not world.metric("stillhere_ghost_seconds_total", cause=cause)


@lived()
async def test_no_user_and_no_room_is_a_label(world: World) -> None:
    bob = await world.connect("somebody-with-a-name")
    await bob.ask("watch", users=["another-name"])
    await bob.ask("join", room="a-room-with-a-name")
    bob.write(b'{"type":"a-type-with-a-name"}')
    await bob.ask("bye")
    text = generate_latest(world.node.metrics.registry).decode()
    assert "-name" not in text
    assert 'stillhere_build_info{node="n1",version="' in text


@lived()
async def test_two_nodes_in_one_process_count_for_themselves(world: World) -> None:
    from stillhere.server.metrics import Metrics

    other = Metrics()
    await world.connect("ann")
    assert other.registry.get_sample_value("stillhere_connects_total") == 0
    assert world.metric("stillhere_connects_total") == 1
