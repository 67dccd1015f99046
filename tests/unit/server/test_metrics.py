"""Prometheus metrics: names and what moves them."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

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
