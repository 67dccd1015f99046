"""Following: a snapshot and then every later change, encoded once, folded under pressure, without a gap."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhere.core.record import Shown, ShownMember
from stillhere.core.words import RoomName, Status, UserId
from stillhere.store.contract import RoomSnapshot, Snapshot
from tests.unit.server.world import Client, View, World, live, lived

ONLINE = Status.ONLINE
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), st.integers(1, 4)),
        st.tuples(st.just("alice"), st.sampled_from(["active", "away", "busy", "invisible"])),
        st.tuples(st.just("reads"), st.tuples(st.integers(0, 3), st.integers(0, 3))),
        st.tuples(st.just("watch"), st.integers(0, 2)),
        st.tuples(st.just("join"), st.integers(0, 2)),
        st.tuples(st.just("alice moves"), st.booleans()),
        st.tuples(st.just("unwatch"), st.integers(0, 2)),
    ),
    max_size=25,
)


@settings(max_examples=150)
@given(STEPS)
def test_a_follower_misses_nothing_whatever_the_order_of_log_and_snapshot(steps: list[tuple[str, object]]) -> None:
    async def script(world: World) -> None:
        alice = await world.connect("alice")
        clients = [await world.connect(f"watcher {i}", tab=f"w{i}") for i in range(3)]
        watching: set[int] = set()
        joined: set[int] = set()
        for what, value in steps:
            if what == "turn":
                assert isinstance(value, int)
                await world.settle(value)
            elif what == "alice":
                alice.say("state", availability=value)
            elif what == "reads":
                assert isinstance(value, tuple)
                world.store.before, world.store.after = value
            elif what == "alice moves":
                alice.say("join" if value else "leave", room="r")
            else:
                assert isinstance(value, int)
                if what == "join":
                    clients[value].say("join", room="r")
                    joined.add(value)
                else:
                    clients[value].say(what, users=["alice", "nobody"])
                    (watching.add if what == "watch" else watching.discard)(value)
        await world.settle(60)
        room = world.store.ledger.rooms.get(RoomName("r"), set())
        for i, client in enumerate(clients):
            view = View(client)
            if i in watching:
                assert view.users["alice"][1] == world.shown("alice")
            if i in joined:
                assert set(view.rooms["r"]) == room
                assert view.rooms["r"].get("alice", (0, "offline"))[1] in (world.shown("alice"), "offline")

    live(script, {"limits.messages_per_second": 1000})


@lived()
async def test_a_snapshot_comes_before_the_changes_that_follow_it(world: World) -> None:
    alice = await world.connect("alice")
    bob = await world.connect("bob")
    bob.take()
    world.store.before = 3
    bob.say("watch", id=1, users=["alice"])
    alice.say("state", availability="away")
    await world.settle()
    first, *rest = bob.take()
    assert first["type"] == "snapshot"
    statuses = [first["users"][0]["status"], *(change["status"] for f in rest for change in f["changes"])]
    assert statuses in (["away"], ["online", "away"])


@lived()
async def test_a_change_is_encoded_once_for_all_who_follow_it(world: World) -> None:
    alice = await world.connect("alice")
    watchers = [await world.connect(f"w{i}") for i in range(5)]
    for watcher in watchers:
        await watcher.ask("watch", users=["alice"])
    alice.say("state", availability="busy")
    await world.settle()
    frames = [watcher.raw[-1] for watcher in watchers]
    assert json.loads(frames[0])["changes"][0]["status"] == "busy"
    assert all(frame is frames[0] for frame in frames)


@lived()
async def test_several_changes_of_one_turn_are_one_frame_for_each_follower(world: World) -> None:
    people = {name: await world.connect(name) for name in ("ann", "ben", "cat")}
    both, all_three = await world.connect("x"), await world.connect("y")
    await both.ask("watch", users=["ann", "ben"])
    await all_three.ask("watch", users=["ann", "ben", "cat"])
    for person in people.values():
        person.say("state", availability="away")
    await world.settle()
    (frame,) = both.take()
    assert sorted(change["user"] for change in frame["changes"]) == ["ann", "ben"]
    (frame,) = all_three.take()
    assert sorted(change["user"] for change in frame["changes"]) == ["ann", "ben", "cat"]


@lived()
async def test_several_changes_of_one_turn_that_all_follow_are_one_frame_for_all(world: World) -> None:
    people = [await world.connect(name) for name in ("ann", "ben")]
    watchers = [await world.connect(f"w{i}") for i in range(3)]
    for watcher in watchers:
        await watcher.ask("watch", users=["ann", "ben"])
    for person in people:
        person.say("state", availability="away")
    await world.settle()
    assert len({id(watcher.raw[-1]) for watcher in watchers}) == 1
    assert len(json.loads(watchers[0].raw[-1])["changes"]) == 2


async def _crowd(world: World, size: int) -> list[Client]:
    watchers = [await world.connect(f"w{i}") for i in range(size)]
    for watcher in watchers:
        watcher.say("watch", users=["alice"])
    await world.settle()
    for watcher in watchers:
        watcher.take()
    return watchers


@pytest.mark.parametrize(("followers", "most"), [(70, 0.0014), (100, 0.002), (1200, 0.02)])
@lived()
async def test_under_pressure_changes_wait_in_proportion_to_the_last_flush_but_20_ms_at_most(
    world: World, followers: int, most: float
) -> None:
    alice = await world.connect("alice")
    watchers = await _crowd(world, followers)
    alice.say("state", availability="away")
    await world.settle()
    assert all(len(watcher.take()) == 1 for watcher in watchers)
    for availability in ("busy", "active", "busy"):
        alice.say("state", availability=availability)
        await world.settle()
    assert all(watcher.take() == [] for watcher in watchers)
    await asyncio.sleep(most * 1.01)
    for watcher in watchers:
        (frame,) = watcher.take()
        assert [change["status"] for change in frame["changes"]] == ["busy"]


@lived()
async def test_a_calm_node_waits_for_nothing(world: World) -> None:
    alice = await world.connect("alice")
    watchers = await _crowd(world, 10)
    for availability in ("busy", "active", "busy"):
        alice.say("state", availability=availability)
        await world.settle()
    assert world.clock.elapsed < 0.01
    assert all(len(watcher.take()) == 3 for watcher in watchers)


@lived()
async def test_a_burst_of_joins_reaches_each_member_as_one_frame(world: World) -> None:
    watcher = await world.connect("watcher")
    await watcher.ask("join", room="r")
    others = [await world.connect(f"u{i}") for i in range(30)]
    watcher.take()
    for other in others:
        other.say("join", room="r")
    await world.settle(20)
    changes = [frame for frame in watcher.take() if frame["type"] == "room"]
    assert sum(len(frame["joins"]) for frame in changes) == 30
    assert len(changes) <= 2


# -- the store cannot be read ---------------------------------------------------------------------------------------


@lived()
async def test_unknown_is_an_answer_and_what_is_known_later_follows(world: World) -> None:
    await world.connect("alice")
    bob = await world.connect("bob")
    world.store.unreadable = True
    (answer,) = await bob.ask("watch", id=1, users=["alice", "nobody"])
    assert not answer["complete"]
    assert [user["status"] for user in answer["users"]] == ["unknown", "unknown"]
    assert world.node.ready == "the store cannot be read"
    assert world.metric("stillhere_store_errors_total") >= 1
    world.store.unreadable = False
    await world.pass_time(0.5)
    assert {change["user"]: change["status"] for frame in bob.take() for change in frame["changes"]} == {
        "alice": "online",
        "nobody": "offline",
    }
    assert world.node.ready is None


@lived()
async def test_who_is_loaded_already_is_known_although_the_store_cannot_be_read(world: World) -> None:
    await world.connect("alice")
    bob, eve = await world.connect("bob"), await world.connect("eve")
    await bob.ask("watch", users=["alice"])
    world.store.unreadable = True
    (answer,) = await eve.ask("query", id=1, users=["alice"])
    assert answer["complete"] and answer["users"][0]["status"] == "online"
    (answer,) = await eve.ask("query", id=2, users=["alice", "carol"])
    assert not answer["complete"]
    assert [user["status"] for user in answer["users"]] == ["online", "unknown"]


@lived()
async def test_a_room_that_cannot_be_read_is_told_whole_when_it_can(world: World) -> None:
    alice, bob = await world.connect("alice"), await world.connect("bob")
    world.store.unreadable_rooms = True
    for client in (alice, bob):
        client.take()
        client.say("join", id=1, room="r")
        await world.pass_time(0.3)
        (answer,) = client.take()
        assert (answer["type"], answer["id"], answer["code"]) == ("error", 1, "unavailable")
    world.store.unreadable_rooms = False
    await world.pass_time(0.5)
    for client in (alice, bob):
        (frame,) = client.take()
        assert {member["user"] for member in frame["members"]} == {"alice", "bob"}
    await alice.ask("leave", room="r")
    assert set(View(bob).rooms["r"]) == {"bob"}


@lived(log_kept=5)
async def test_a_gap_in_the_log_is_answered_with_fresh_snapshots(world: World) -> None:
    alice, bob, eve = [await world.connect(name) for name in ("alice", "bob", "eve")]
    await bob.ask("watch", users=["alice", "eve"])
    await bob.ask("join", room="r")
    world.store.unreadable = True
    eve.say("join", room="r")
    for availability in ("away", "busy") * 10:
        alice.say("state", availability=availability)
        await world.settle()
    world.store.unreadable = False
    await world.pass_time(0.5)
    view = View(bob)
    assert view.users["alice"][1] == "busy"
    assert set(view.rooms["r"]) == {"bob", "eve"}


@lived(log_kept=5)
async def test_an_answer_that_waits_for_the_log_survives_a_gap_in_it(world: World) -> None:
    alice, bob = await world.connect("alice"), await world.connect("bob")
    world.store.unreadable = True
    bob.take()
    bob.say("join", id=1, room="r")
    for availability in ("away", "busy") * 5:
        alice.say("state", availability=availability)
        await world.settle()
    assert bob.take() == []
    world.store.unreadable = False
    await world.pass_time(0.5)
    (answer,) = bob.take()
    assert answer["id"] == 1 and [member["user"] for member in answer["members"]] == ["bob"]


@pytest.mark.parametrize("unreadable", [False, True])
@lived()
async def test_a_look_up_of_one_who_is_gone_leaves_nothing_behind(world: World, unreadable: bool) -> None:
    bob = await world.connect("bob")
    world.store.unreadable = unreadable
    world.store.before = 3
    bob.say("watch", users=["alice", "carol"])
    bob.say("query", users=["dora"])
    bob.say("join", room="r")
    bob.drop()
    await world.pass_time(30)
    world.store.unreadable = False
    await world.pass_time(1)
    assert not world.leftovers()


@lived()
async def test_an_answer_waits_for_all_it_asked_for_while_others_are_answered(world: World) -> None:
    """Two look-ups overlap in one user: the second one asks for one who is not in the request that is under way."""
    bob, eve = await world.connect("bob"), await world.connect("eve")
    world.store.after = 4
    for client in (bob, eve):
        client.take()
    bob.say("watch", id=1, users=["ann"])
    await world.settle(3)
    eve.say("watch", id=2, users=["ann", "zoe"])
    await world.settle(30)
    assert [len(frame["users"]) for frame in bob.take()] == [1]
    (answer,) = eve.take()
    assert answer["complete"] and [user["status"] for user in answer["users"]] == ["offline", "offline"]


@lived()
async def test_a_recovering_store_is_asked_twice_a_second_however_much_news_there_is(world: World) -> None:
    bob = await world.connect("bob")
    asked: list[list[UserId]] = []
    snapshot = world.store.snapshot

    async def unsure(users: Sequence[UserId]) -> Snapshot:
        asked.append(list(users))
        return msgspec.structs.replace(await snapshot(users), unknown=frozenset(users))

    world.store.snapshot = unsure  # type: ignore[method-assign]
    bob.say("watch", id=1, users=["alice"])
    await world.pass_time(0.1)
    assert bob.of("snapshot")[-1]["users"][0]["status"] == "unknown"
    for _ in range(40):
        world.node.hub._on_news()
        await world.pass_time(0.05)
    assert 3 <= len(asked) <= 6
    world.store.snapshot = snapshot  # type: ignore[method-assign]
    await world.pass_time(1)
    assert bob.of("presence")[-1]["changes"][0]["status"] == "offline"


@lived()
async def test_who_is_there_only_as_a_lost_epoch_left_them_is_not_shown_again_until_a_node_tells_of_them(
    world: World,
) -> None:
    bob, eve = await world.connect("bob"), UserId("eve")
    await bob.ask("watch", users=["eve"])
    await bob.ask("join", room="r")
    snapshot, room_of = world.store.snapshot, world.store.room
    doubtful: frozenset[UserId] = frozenset({eve})

    async def of_a_lost_epoch(users: Sequence[UserId]) -> Snapshot:
        found = await snapshot(users)
        return msgspec.structs.replace(found, users={**found.users, eve: Shown(ONLINE, 9, 1.0)}, doubtful=doubtful)

    async def room_of_a_lost_epoch(room: RoomName) -> RoomSnapshot:
        found = await room_of(room)
        members = {**found.members, eve: ShownMember(ONLINE, 9, 1.0)}
        return msgspec.structs.replace(found, members=members, doubtful=doubtful)

    world.store.snapshot = of_a_lost_epoch  # type: ignore[method-assign]
    world.store.room = room_of_a_lost_epoch  # type: ignore[method-assign]
    bob.take()
    world.node.hub._reload(0)
    await world.pass_time(2.0)
    assert bob.take() == []
    doubtful = frozenset()
    await world.pass_time(1.0)
    view = View(bob)
    assert view.users["eve"][1] == "online" and "eve" in view.rooms["r"], "looked at again, without any news"
