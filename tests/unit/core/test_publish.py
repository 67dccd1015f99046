"""From a settled record to what watchers are told."""

from __future__ import annotations

import pytest

from stillhere.core.events import Change
from stillhere.core.words import Availability, Cause, Phase, Status
from tests.unit.core.world import ALICE, START, World

ACTIVE, BUSY, AWAY, INVISIBLE = Availability.ACTIVE, Availability.BUSY, Availability.AWAY, Availability.INVISIBLE


def test_online_says_when_and_why_and_how_many_connections_there_are() -> None:
    world = World()
    world.connect(info={"name": "Alice"})
    (told,) = world.watcher.seen
    assert (told.user, told.change, told.at, told.cause, told.connections) == (
        ALICE,
        Change.ONLINE,
        START,
        "connection_open",
        1,
    )
    assert told.shown == world.shown()
    shown = world.shown()
    assert (shown.status, shown.version, shown.changed_at, shown.info) == (Status.ONLINE, 1, START, {"name": "Alice"})
    assert shown.last_seen_at is None and shown.meta is None


def test_offline_says_the_cause_of_the_end_and_keeps_the_public_object() -> None:
    world = World()
    world.end(world.connect(info={"name": "Alice"}))
    world.advance(8)
    told = world.watcher.seen[-1]
    assert (told.change, told.cause, told.at, told.connections) == (Change.OFFLINE, Cause.GOING_AWAY, START + 8, 0)
    assert told.shown is not None and told.shown.info == {"name": "Alice"} and told.shown.last_seen_at == START


def test_metadata_and_availability_are_updates_with_a_version_each() -> None:
    world = World()
    c = world.connect()
    world.state(c, BUSY)
    world.state(c, None, {"mood": "tea"})
    world.state(c, None, {"mood": None})
    assert world.changes() == [Change.ONLINE] + [Change.UPDATED] * 3
    assert [t.cause for t in world.watcher.seen[1:]] == ["state"] * 3
    assert [t.version for t in world.watcher.seen] == [1, 2, 3, 4]


def test_what_watchers_cannot_tell_apart_is_not_told() -> None:
    world = World()
    c = world.connect(info={"name": "Alice"})
    world.state(c, ACTIVE)
    world.state(c, None, {})
    world.connect(tab="t2", info={"name": "Alice"})
    world.close(c)
    assert world.changes() == [Change.ONLINE]


def test_a_user_who_becomes_invisible_is_offline_since_that_moment() -> None:
    world = World()
    c = world.connect()
    world.join(c, "r")
    world.advance(2)
    world.state(c, INVISIBLE)
    shown = world.shown()
    assert (shown.status, shown.last_seen_at, shown.meta) == (Status.OFFLINE, START + 2, None)
    assert world.members("r") == set()
    assert world.watcher.seen[-2].cause == "invisible"


def test_nothing_that_an_invisible_user_does_can_be_seen() -> None:
    world = World()
    c = world.connect()
    world.state(c, INVISIBLE)
    shown, told = world.shown(), len(world.watcher.seen)
    world.advance(1)
    world.join(c, "r", {"a": 1})
    world.state(c, None, {"mood": "tea"})
    other = world.connect(tab="t2", info={"name": "new"})
    world.advance(1)
    world.end(other)
    world.end(c)
    world.advance(60)
    assert world.phase() is Phase.OFFLINE
    assert world.shown() == shown
    assert len(world.watcher.seen) == told
    world.connect(availability=INVISIBLE)
    world.advance(1)
    assert len(world.watcher.seen) == told


def test_a_user_who_was_never_seen_leaves_no_trace() -> None:
    world = World()
    world.bye(world.connect(availability=INVISIBLE))
    assert world.watcher.seen == []
    assert world.ledger.records == {}


def test_a_user_who_shows_up_again_is_online_and_back_in_the_rooms() -> None:
    world = World()
    c = world.connect(info={"name": "Alice"})
    world.join(c, "r")
    world.state(c, INVISIBLE)
    world.advance(1)
    world.state(c, BUSY)
    assert world.status() is Status.BUSY
    assert world.members("r") == {ALICE}
    assert world.record().members["r"].joined_at == START + 1  # type: ignore[index]
    assert world.record().hidden_at is None
    world.advance(1)
    world.state(c, INVISIBLE)
    assert world.shown().last_seen_at == START + 2


def test_a_user_who_goes_after_having_been_visible_again_was_last_seen_at_the_end() -> None:
    world = World()
    c = world.connect()
    world.state(c, INVISIBLE)
    world.state(c, ACTIVE)
    world.advance(3)
    world.bye(c)
    assert world.shown().last_seen_at == START + 3


def test_rooms_tell_joins_updates_and_leaves_with_the_time_of_joining() -> None:
    world = World()
    c = world.connect()
    world.join(c, "r", {"seat": 1})
    world.advance(1)
    world.join(c, "r", {"seat": 2})
    world.state(c, AWAY)
    world.advance(1)
    world.leave(c, "r")
    told = [t for t in world.watcher.seen if t.room == "r"]
    assert [t.change for t in told] == [Change.JOINED, Change.MEMBER, Change.MEMBER, Change.LEFT]
    assert [t.member.joined_at for t in told if t.member] == [START] * 3
    assert [t.member.status for t in told if t.member] == [Status.ONLINE, Status.ONLINE, Status.AWAY]
    assert [t.member.version for t in told if t.member] == [t.version for t in told[:3]]
    assert all(t.shown is None for t in told)


def test_a_room_is_told_nothing_of_what_does_not_concern_it() -> None:
    world = World()
    c = world.connect()
    world.join(c, "r")
    world.state(c, None, {"mood": "tea"})
    world.connect(tab="t2")
    world.join(c, "q")
    assert [t.change for t in world.watcher.seen if t.room == "r"] == [Change.JOINED]


@pytest.mark.parametrize("kick", [False, True])
def test_offline_leaves_all_rooms(kick: bool) -> None:
    world = World()
    c = world.connect()
    world.join(c, "r")
    world.join(c, "q")
    if kick:
        world.kick()
    else:
        world.bye(c)
    assert world.members("r") == world.members("q") == set()
    assert [t.change for t in world.watcher.seen[-3:]] == [Change.OFFLINE, Change.LEFT, Change.LEFT]
