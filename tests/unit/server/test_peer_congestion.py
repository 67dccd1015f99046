"""A consumer that is slower than what it follows."""

from __future__ import annotations

from tests.unit.server.world import View, World, lived


@lived()
async def test_a_congested_follower_is_told_the_newest_state_when_there_is_room_again(world: World) -> None:
    ann, cat, bob = [await world.connect(name) for name in ("ann", "cat", "bob")]
    await bob.ask("watch", users=["ann", "cat"])
    bob.capacity = 0
    await ann.ask("state", availability="away")
    assert bob.congested() and len(bob.take()) == 1, "the frame that filled it"
    for availability in ("busy", "active", "busy"):
        await ann.ask("state", availability=availability)
        await cat.ask("state", availability=availability)
    assert bob.take() == []
    assert world.metric("stillhere_frames_folded_total") == 6
    bob.capacity = None
    bob.drain()
    changes = [change for frame in bob.take() for change in frame["changes"]]
    assert sorted((change["user"], change["status"]) for change in changes) == [("ann", "busy"), ("cat", "busy")]
    await ann.ask("state", availability="away")
    assert len(bob.take()) == 1
    assert View(bob).users["ann"][1] == "away"


@lived()
async def test_a_congested_member_is_told_the_whole_room_when_there_is_room_again(world: World) -> None:
    bob = await world.connect("bob")
    others = [await world.connect(f"u{i}") for i in range(5)]
    await bob.ask("join", room="r")
    bob.capacity = 0
    for other in others:
        await other.ask("join", room="r")
    await others[0].ask("leave", room="r")
    bob.take()
    bob.capacity = None
    bob.drain()
    (frame,) = bob.take()
    assert {member["user"] for member in frame["members"]} == {"bob", "u1", "u2", "u3", "u4"}
    assert set(View(bob).rooms["r"]) == {"bob", "u1", "u2", "u3", "u4"}


@lived()
async def test_catching_up_stops_when_the_outbox_is_full_again(world: World) -> None:
    people = [await world.connect(f"u{i}") for i in range(4)]
    bob = await world.connect("bob")
    await bob.ask("watch", users=[f"u{i}" for i in range(4)])
    bob.capacity = 0
    for person in (*people, *people):
        availability = "away" if person.peer.connection and person.peer.connection.availability is None else "busy"
        await person.ask("state", availability=availability)
    bob.take()
    caught_up = set()
    for _ in range(4):
        assert bob.congested()
        bob.drain()
        (frame,) = bob.take()
        caught_up.add(frame["changes"][0]["user"])
        assert frame["changes"][0]["status"] == "busy"
    assert caught_up == {"u0", "u1", "u2", "u3"}
    bob.drain()
    assert bob.take() == [] and not bob.congested()


@lived()
async def test_others_are_told_at_once_while_one_is_congested(world: World) -> None:
    ann, bob, eve = [await world.connect(name) for name in ("ann", "bob", "eve")]
    for watcher in (bob, eve):
        await watcher.ask("watch", users=["ann"])
    bob.capacity = 0
    for availability in ("away", "busy", "away"):
        await ann.ask("state", availability=availability)
    assert len(eve.take()) == 3


@lived()
async def test_one_that_does_not_drain_is_closed_with_4102_after_the_lag_timeout(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    await world.pass_time(1)
    bob.capacity, bob.polite = 0, False
    await ann.ask("state", availability="away")
    await world.pass_time(9.5)
    assert bob.code() is None
    await world.pass_time(1)
    assert bob.code() == 4102 and bob.aborted()
    assert world.fields("grace_started")["cause"] == "slow_consumer"
    assert world.metric("stillhere_slow_consumer_closes_total") == 1
    await world.pass_time(20)
    assert world.shown("bob") == "offline"


@lived()
async def test_one_that_drains_in_time_starts_anew(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    for i in range(10):
        bob.capacity = 0
        await ann.ask("state", availability="away" if i % 2 else "busy")
        assert bob.congested()
        await world.pass_time(8)
        bob.capacity = None
        bob.drain()
        assert not bob.congested()
    assert bob.code() is None


@lived()
async def test_what_was_unfollowed_while_congested_is_not_told_later(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    bob.capacity = 0
    await ann.ask("state", availability="away")
    await ann.ask("state", availability="busy")
    bob.say("unwatch", users=["ann"])
    bob.take()
    bob.drain()
    assert bob.take() == []


@lived()
async def test_several_changes_at_once_are_folded_for_the_congested_only(world: World) -> None:
    ann, cat, bob, eve = [await world.connect(name) for name in ("ann", "cat", "bob", "eve")]
    for watcher in (bob, eve):
        await watcher.ask("watch", users=["ann", "cat"])
    bob.capacity = 0
    for availability in ("away", "busy"):
        for person in (ann, cat):
            person.say("state", availability=availability)
        await world.settle()
    assert [len(frame["changes"]) for frame in eve.take()] == [2, 2]
    assert len(bob.take()) == 1
    bob.capacity = None
    bob.drain()
    changes = [change for frame in bob.take() for change in frame["changes"]]
    assert sorted((change["user"], change["status"]) for change in changes) == [("ann", "busy"), ("cat", "busy")]


@lived({"limits.outbox_bytes": 1024, "limits.message_bytes": 1024, "limits.meta_bytes": 500})
async def test_one_that_asks_on_and_on_and_reads_nothing_is_closed_with_4102_before_its_time(world: World) -> None:
    """What is folded are changes; answers cannot be, and so their sum is bounded."""
    bob = await world.connect("bob")
    bob.capacity = 1024
    for i in range(30):
        bob.say("query", id=i, users=[f"u{n}" for n in range(10)])
        await world.settle()
    assert bob.code() == 4102 and bob.aborted()
    assert 16 * 1024 < bob.unsent() < 17 * 1024 + 1024
    assert world.metric("stillhere_slow_consumer_closes_total") == 1
    assert world.fields("active_socket_closed")["cause"] == "slow_consumer"
