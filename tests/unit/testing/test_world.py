"""What an application's tests can say about presence, with the real rules and no network."""

from __future__ import annotations

import time
from typing import Any

import pytest

from stillhere.embed import Identity, Presence, Request, identity
from stillhere.testing import Refused, Sight, World, presence_world
from stillhere.testing.fixtures import presence_options, world

__all__ = ["presence_options", "world"]  # fixtures


async def test_a_reload_shows_nothing(world: World) -> None:
    alice = await world.connect("alice")
    bob = await world.connect("bob", watches=["alice"])
    alice.reload(gap=2.0)
    assert bob.saw == []
    await world.advance(10)
    assert bob.saw == [] and bob.sees("alice") == "online" and alice.connected


async def test_a_closed_tab_is_offline_after_its_window_and_not_before(world: World) -> None:
    alice = await world.connect("alice")
    bob = await world.connect("bob", watches=["alice"])
    alice.leave_page()
    await world.advance(7.5)
    assert bob.saw == []
    await world.advance(1.5)
    assert bob.saw == [Sight("alice", "offline")]


async def test_a_log_out_shows_at_once(world: World) -> None:
    alice = await world.connect("alice")
    bob = await world.connect("bob", watches=["alice"])
    alice.log_out()
    await world.settle()
    assert bob.saw == [("alice", "offline")]
    assert not alice.connected and alice.closed == (1000, "bye")


async def test_a_reload_that_takes_longer_than_the_window_shows(world: World) -> None:
    alice = await world.connect("alice")
    bob = await world.connect("bob", watches=["alice"])
    alice.reload(gap=20)
    await world.advance(30)
    assert [one.status for one in bob.saw] == ["offline", "online"]


async def test_a_lost_network_and_a_vanished_device_end_within_their_bounds(world: World) -> None:
    alice, carol = await world.connect("alice"), await world.connect("carol")
    bob = await world.connect("bob", watches=["alice", "carol"])
    alice.lose_network(gap=5)
    carol.vanish()
    await world.advance(25)
    assert bob.saw == []
    await world.advance(20)
    assert bob.saw == [("carol", "offline")]
    assert not carol.connected


async def test_a_second_tab_keeps_its_user_online(world: World) -> None:
    first = await world.connect("alice")
    second = await world.connect("alice")
    bob = await world.connect("bob", watches=["alice"])
    first.leave_page(1000)
    await world.advance(60)
    assert bob.saw == [] and second.connected
    await second.be("away")
    assert bob.saw == [("alice", "away")]


async def test_rooms_are_seen_and_survive_a_reload(world: World) -> None:
    alice = await world.connect("alice", rooms=["kitchen"])
    bob = await world.connect("bob", rooms=["kitchen"])
    assert alice.members("kitchen") == {"alice": "online", "bob": "online"}
    alice.reload()
    await world.advance(5)
    assert bob.members("kitchen") == alice.members("kitchen") == {"alice": "online", "bob": "online"}
    await alice.leave("kitchen")
    assert bob.members("kitchen") == {"bob": "online"}


async def test_a_large_room_has_its_count_and_no_members() -> None:
    async with presence_world(settings={"rooms.count_only_above": 2}) as world:
        alice = await world.connect("alice", rooms=["hall"])
        bob = await world.connect("bob", rooms=["hall"])
        assert (len(alice.members("hall")), alice.count("hall")) == (2, 2)
        carol = await world.connect("carol", rooms=["hall"])
        await world.advance(2)
        assert [(client.members("hall"), client.count("hall")) for client in (alice, bob, carol)] == [({}, 3)] * 3
        for client in (bob, carol):
            await client.leave("hall")
        await world.advance(2)
        assert (alice.members("hall"), alice.count("hall")) == ({"alice": "online"}, 1)
        assert bob.count("hall") == 0


async def test_who_does_not_watch_any_more_sees_nothing(world: World) -> None:
    alice = await world.connect("alice")
    bob = await world.connect("bob", watches=["alice"])
    await bob.unwatch("alice")
    alice.log_out()
    await world.settle()
    assert bob.saw == [] and bob.sees("alice") == "unknown"


async def test_a_kick_tells_a_client_not_to_come_back(world: World) -> None:
    alice = await world.connect("alice")
    assert await world.presence.disconnect("alice", "enough") == 1
    assert alice.closed == (4004, "enough")
    assert not alice.will_reconnect
    assert await world.status("alice") == "offline"


async def test_a_reload_that_is_refused_is_told_by_the_next_advance() -> None:
    answers: list[str | None] = ["alice"]

    async def who(request: Request) -> str | None:
        return answers.pop() if answers else None

    async with presence_world(authenticate=who) as world:
        alice = await world.connect(None)
        alice.reload()
        with pytest.raises(Refused, match="401"):
            await world.advance(5)


async def test_the_application_itself_may_make_the_presence() -> None:
    def who(request: Request) -> Identity | None:
        name = request.cookies.get("name")
        return identity(name) if name else None

    def make_presence(**options: Any) -> Presence:
        return Presence(authenticate=who, may_watch=lambda who, user: user != "boss", **options)

    async with presence_world(make_presence) as world:
        boss = await world.connect(None, cookies={"name": "boss"})
        bob = await world.connect(None, cookies={"name": "bob"}, watches=["boss"])
        assert boss.connected and await world.status("boss") == "online"
        assert bob.sees("boss") == "offline"
        with pytest.raises(Refused) as refused:
            await world.connect(None)
        assert refused.value.status == 401


async def test_windows_are_those_of_the_settings() -> None:
    async with presence_world(settings={"grace.going_away": 500}) as world:
        alice = await world.connect("alice")
        bob = await world.connect("bob", watches=["alice"])
        alice.leave_page()
        await world.advance(0.9)
        assert bob.saw == [("alice", "offline")]


async def test_a_world_costs_milliseconds() -> None:
    begin = time.process_time()
    async with presence_world() as world:
        alice = await world.connect("alice")
        bob = await world.connect("bob", watches=["alice"])
        alice.leave_page()
        await world.advance(60)
        assert bob.saw == [("alice", "offline")]
    assert time.process_time() - begin < 3, "a world with a minute in it takes about 30 ms where nothing else runs"
