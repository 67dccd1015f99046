"""Tabs of one user: reload, supersession, kick."""

from __future__ import annotations

import pytest

from stillhere.core.words import Cause, ConnectionId, UserId
from tests.unit.server.world import Client, World, lived

ANN = UserId("ann")


async def watcher(world: World, *users: str) -> Client:
    client = await world.connect("watcher")
    await client.ask("watch", users=list(users) or ["ann"])
    return client


def told(client: Client) -> list[str]:
    return [change["status"] for frame in client.take() if frame["type"] == "presence" for change in frame["changes"]]


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.08, 0.5, 7.5])
@lived()
async def test_a_reload_shows_nothing_at_all(world: World, pause: float) -> None:
    bob = await watcher(world)
    ann = await world.connect("ann", tab="t")
    await ann.ask("join", room="r")
    await bob.ask("join", room="r")
    bob.take()
    for _ in range(5):
        ann.leave(1001)
        await world.pass_time(pause)
        ann = await world.connect("ann", tab="t")
    await world.pass_time(60)
    assert [frame for frame in bob.take() if frame["type"] == "presence"] == []


@lived()
async def test_a_new_socket_before_the_old_close_shows_nothing(world: World) -> None:
    bob = await watcher(world)
    ann = await world.connect("ann", tab="t")
    bob.take()
    new = await world.connect("ann", tab="t")
    ann.leave(1001)
    await world.pass_time(60)
    assert bob.take() == [] and new.code() is None


@lived({"grace.going_away": 0})
async def test_without_a_window_a_reload_shows_the_false_offline(world: World) -> None:
    bob = await watcher(world)
    ann = await world.connect("ann", tab="t")
    told(bob)
    ann.leave(1001)
    await world.pass_time(0.5)
    await world.connect("ann", tab="t")
    assert told(bob) == ["offline", "online"]
    assert world.fields("user_reconnected")["falseOffline"] is True
    assert world.metric("stillhere_false_offline_total", cause="going_away") == 1


@lived()
async def test_of_two_tabs_the_first_close_is_silent_and_the_second_gives_one_offline(world: World) -> None:
    bob = await watcher(world)
    first, second = await world.connect("ann"), await world.connect("ann")
    told(bob)
    first.leave(1001)
    await world.pass_time(60)
    assert told(bob) == []
    closed_at = round(world.clock.now() * 1000)
    second.leave(1001)
    await world.pass_time(7.9)
    assert told(bob) == []
    await world.pass_time(0.4)
    (frame,) = bob.take()
    (change,) = frame["changes"]
    assert (change["status"], change["lastSeenAt"]) == ("offline", closed_at)


@lived()
async def test_a_newer_connection_of_a_tab_supersedes_the_older_one_in_silence(world: World) -> None:
    bob = await watcher(world)
    ann = await world.connect("ann", tab="t")
    ann.polite = ann.answers_pings = False
    told(bob)
    await world.pass_time(1)
    new = await world.connect("ann", tab="t")
    assert ann.closed == (4005, "a newer connection of this tab is open") and new.code() is None
    await world.pass_time(6)
    assert ann.aborted() and told(bob) == []
    assert world.events("grace_started") == []
    assert world.metric("stillhere_disconnects_total", cause="superseded", code="4005") == 1


@lived()
async def test_tabs_of_different_users_and_connections_without_a_tab_supersede_nobody(world: World) -> None:
    clients = [await world.connect(user, tab=tab) for user in ("ann", "bob") for tab in ("t", "", "")]
    assert [client.code() for client in clients] == [None] * 6


@lived()
async def test_what_a_tab_stated_survives_its_reconnect(world: World) -> None:
    bob = await watcher(world)
    ann = await world.connect("ann", tab="t")
    await ann.ask("state", availability="busy", meta={"mood": "fine"})
    told(bob)
    ann.leave(1001)
    await world.pass_time(2)
    again = await world.connect("ann", tab="t")
    await world.pass_time(20)
    assert told(bob) == [] and world.shown("ann") == "busy"
    await again.ask("state", meta={"seat": 1})
    (frame,) = bob.take()
    assert frame["changes"][0]["meta"] == {"mood": "fine", "seat": 1}


@lived()
async def test_a_room_is_kept_for_a_tab_that_reloads_until_it_has_joined_anew(world: World) -> None:
    bob = await world.connect("bob")
    await bob.ask("join", room="r")
    ann = await world.connect("ann", tab="t")
    await ann.ask("join", room="r", meta={"seat": 1})
    bob.take()
    ann.leave(1001)
    await world.pass_time(1)
    again = await world.connect("ann", tab="t")
    assert bob.take() == []
    await again.ask("join", room="r", meta={"seat": 1})
    assert all("leaves" not in frame and "joins" not in frame for frame in bob.take())


# -- kick -----------------------------------------------------------------------------------------------------------


@lived()
async def test_a_kick_closes_every_connection_with_4004_and_is_offline_at_once(world: World) -> None:
    bob = await watcher(world)
    clients = [await world.connect("ann", tab=f"t{i}") for i in range(3)]
    clients[0].polite = False
    await clients[1].ask("join", room="r")
    told(bob)
    assert world.node.disconnect(ANN, "spam") == 3
    await world.settle()
    assert [client.closed for client in clients] == [(4004, "spam")] * 3
    assert told(bob) == ["offline"]
    assert world.fields("PRESENCE_OFFLINE")["cause"] == "kicked"
    await world.pass_time(60)
    assert told(bob) == []


@lived()
async def test_a_kick_ends_a_window(world: World) -> None:
    bob = await watcher(world)
    ann = await world.connect("ann")
    told(bob)
    ann.leave(1001)
    await world.pass_time(1)
    assert world.node.disconnect(ANN) == 0
    await world.settle()
    assert told(bob) == ["offline"]
    assert world.fields("grace_cancelled")["by"] == "kicked"


@lived()
async def test_a_kick_of_one_who_is_not_here_is_nothing(world: World) -> None:
    assert world.node.disconnect(UserId("nobody")) == 0
    await world.settle()
    assert world.node.disconnect(UserId("nobody"), "again") == 0
    await world.pass_time(2)
    assert not world.leftovers() and world.events("PRESENCE_OFFLINE") == []


@lived()
async def test_a_kicked_connection_that_is_closing_is_offline_at_once_too(world: World) -> None:
    ann = await world.connect("ann", ttl=10)
    ann.polite = False
    await world.pass_time(10.5)
    assert ann.ready() == "CLOSING"
    assert world.node.disconnect(ANN) == 1
    await world.settle()
    assert world.shown("ann") == "offline"


@lived()
async def test_who_was_kicked_may_come_back(world: World) -> None:
    await world.connect("ann", tab="t")
    world.node.disconnect(ANN, cause=Cause.REVOKED)
    await world.settle()
    assert world.fields("PRESENCE_OFFLINE")["cause"] == "revoked"
    await world.connect("ann", tab="t")
    assert world.shown("ann") == "online"
    assert world.events("user_reconnected") == []


@lived()
async def test_a_dropped_network_is_an_abnormal_end(world: World) -> None:
    ann = await world.connect("ann")
    assert world.node.peer(ConnectionId(ann.id)) is ann.peer
    assert world.node.drop(ConnectionId(ann.id))
    await world.settle()
    assert ann.lost and world.fields("active_socket_closed")["cause"] == "abnormal"
    assert not world.node.drop(ConnectionId(ann.id))
    assert world.node.peer(ConnectionId(ann.id)) is None
