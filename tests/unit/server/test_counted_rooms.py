"""A large room is told by its count, at a bounded rate; its names page by page; a smaller one by names again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhere.client.book import Book
from stillhere.core.events import Change, Transition
from stillhere.core.record import ShownMember
from stillhere.core.words import ConnectionId, RoomName, Status, UserId
from stillhere.server.topics import COUNT_EVERY, RoomTopic
from stillhere.store.contract import Cursor, RoomSnapshot
from stillhere.wire.frames import FRAME_BYTES
from stillhere.wire.messages import Room
from tests.unit.server.world import Client, World, live, lived

LOBBY = RoomName("lobby")
MOST = 10
FLAGS = {"rooms.count_only_above": MOST, "limits.messages_per_second": 1000}


def names(number: int) -> list[UserId]:
    return [UserId(f"u{n:03}") for n in range(number)]


def room(number: int, most: int = MOST, bytes_of_each: int = 0) -> RoomTopic:
    """A room that is loaded with so many members."""
    topic = RoomTopic(LOBBY, most)
    metas = ((ConnectionId("c"), {"x": "y" * bytes_of_each}),) if bytes_of_each else ()
    members = {user: ShownMember(Status.ONLINE, n + 1, 1.0, None, metas) for n, user in enumerate(names(number))}
    topic.load(RoomSnapshot({0: Cursor(7, number)}, members), lambda user: 0)
    return topic


class Log:
    """Who comes and goes, in order."""

    def __init__(self, topic: RoomTopic) -> None:
        self.topic = topic
        self.version = 1000

    def joined(self, user: str, status: Status = Status.ONLINE) -> None:
        self.version += 1
        member = ShownMember(status, self.version, 1.0)
        self._told(Transition(UserId(user), Change.JOINED, self.version, 0.0, "room", room=LOBBY, member=member))

    def left(self, user: str) -> None:
        self.version += 1
        self._told(Transition(UserId(user), Change.LEFT, self.version, 0.0, "room", room=LOBBY))

    def _told(self, transition: Transition) -> None:
        self.topic.apply(transition, 7, 0)


def read(frame: bytes) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.json.decode(frame)
    assert told.pop("type") == "room" and told.pop("room") == "lobby"
    return told


def changes(topic: RoomTopic, now: float = 0.0) -> list[dict[str, Any]]:
    return [read(frame) for frame in topic.changes(now)]


# -- crossing the number, up and down -------------------------------------------------------------------------------


def test_a_room_that_grows_too_large_is_told_by_its_count() -> None:
    topic = room(MOST)
    assert "members" in read(topic.snapshot())
    log = Log(topic)
    log.joined("zoe", Status.AWAY)
    assert changes(topic) == [{"count": 11, "statuses": {"away": 1, "online": 10}}]
    assert changes(topic) == []
    log.joined("zoe")
    assert changes(topic, 5.0) == [{"count": 11, "statuses": {"online": 11}}]
    log.left("zoe")
    assert changes(topic, 9.0) == [{"count": 10, "statuses": {"online": 10}}]


def test_a_room_that_is_large_when_it_is_loaded_is_told_by_its_count() -> None:
    assert read(room(MOST + 1).snapshot()) == {"count": 11, "statuses": {"online": 11}}
    assert not room(MOST).counted


def test_a_room_that_becomes_smaller_is_told_by_names_once_it_is_clearly_smaller() -> None:
    topic = room(MOST + 1)
    log = Log(topic)
    for user in ("u000", "u001"):
        log.left(user)
        assert [set(told) for told in changes(topic)] == [{"count", "statuses"}]
    log.left("u002")
    (told,) = changes(topic)
    assert [member["user"] for member in told["members"]] == names(11)[3:]
    log.left("u003")
    (told,) = changes(topic)
    assert [member["user"] for member in told["leaves"]] == ["u003"]


def test_a_room_around_the_number_does_not_go_to_and_fro() -> None:
    topic = room(MOST)
    log = Log(topic)
    forms: set[str] = set()
    for _ in range(20):
        log.joined("zoe")
        forms.update(*changes(topic))
        log.left("zoe")
        forms.update(*changes(topic))
    assert forms == {"count", "statuses"}


def test_of_changes_that_cancel_out_nothing_is_told() -> None:
    topic = room(MOST + 5)
    log = Log(topic)
    log.joined("zoe")
    assert len(changes(topic)) == 1
    log.joined("ann")
    log.left("ann")
    assert changes(topic) == []


def test_who_was_told_a_count_in_between_is_told_the_next_one_although_it_is_the_last_one() -> None:
    topic = room(MOST + 5)
    log = Log(topic)
    log.joined("zoe")
    (before,) = changes(topic)
    log.left("zoe")
    between = read(topic.page(3))
    assert (between["id"], between["count"]) == (3, before["count"] - 1)
    log.joined("zoe")
    assert changes(topic) == [before]


def test_the_count_is_told_at_once_and_then_at_a_bounded_rate() -> None:
    topic = room(MOST)
    log = Log(topic)
    assert topic.wait(50.0) <= 0
    log.joined("zoe")
    assert topic.wait(50.0) <= 0 and changes(topic, 50.0)
    log.joined("ann")
    assert topic.wait(50.25) == pytest.approx(COUNT_EVERY - 0.25)
    assert topic.wait(50.0 + COUNT_EVERY) <= 0
    for user in names(4):
        log.left(user)
    assert topic.wait(50.25) <= 0, "names do not wait"


def test_a_fresh_snapshot_of_a_large_room_is_told_as_a_count() -> None:
    topic = room(MOST)
    members = {user: ShownMember(Status.BUSY, 50, 1.0) for user in names(MOST + 2)}
    topic.load(RoomSnapshot({0: Cursor(8, 50)}, members), lambda user: 0)
    assert changes(topic) == [{"count": 12, "statuses": {"busy": 12}}]


# -- pages ----------------------------------------------------------------------------------------------------------


def pages(topic: RoomTopic, limit: int) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        told = read(topic.page(None, cursor, limit))
        assert len(told["page"]) <= limit and told["count"] == len(topic.members)
        found += [member["user"] for member in told["page"]]
        if "cursor" not in told:
            return found
        cursor = told["cursor"]
        assert cursor == found[-1]


@given(
    st.integers(MOST + 1, 40),
    st.integers(1, 50),
    st.lists(st.tuples(st.booleans(), st.sampled_from([*names(20), UserId("ann"), UserId("zoe")]))),
)
def test_the_pages_of_a_room_are_all_its_members_in_order_whatever_happened_before(
    number: int, limit: int, steps: list[tuple[bool, UserId]]
) -> None:
    topic = room(number)
    log = Log(topic)
    assert pages(topic, limit) == sorted(topic.members)
    for comes, user in steps:
        log.joined(user) if comes else log.left(user)
        assert pages(topic, limit) == sorted(topic.members)


def test_the_page_of_a_small_room_is_the_whole_of_it() -> None:
    told = read(room(3).page(1, "u001", 1))
    assert [member["user"] for member in told["members"]] == names(3) and "page" not in told


def test_a_page_is_bounded_in_bytes_and_holds_one_member_at_least() -> None:
    topic = room(60, bytes_of_each=3000)
    assert len(topic.page(None, "", 1000)) < FRAME_BYTES + 5000
    assert pages(topic, 1000) == names(60)
    topic = room(12, bytes_of_each=FRAME_BYTES + 1)
    assert len(read(topic.page())["page"]) == 1
    assert pages(topic, 1000) == names(12)


def test_after_the_last_one_there_is_an_empty_page() -> None:
    told = read(room(MOST + 1).page(None, "zzz"))
    assert told["page"] == [] and "cursor" not in told


# -- a node ---------------------------------------------------------------------------------------------------------


async def crowd(world: World, number: int) -> list[Client]:
    found = [await world.connect(f"c{n:03}", tab="t") for n in range(number)]
    for client in found:
        client.say("join", room="lobby")
    await world.settle()
    return found


def rooms(client: Client) -> list[dict[str, Any]]:
    return [frame for frame in client.take() if frame["type"] == "room"]


@lived(FLAGS)
async def test_who_joins_a_large_room_is_told_the_count_and_a_page_and_the_others_once_a_second(world: World) -> None:
    first, *_ = await crowd(world, MOST + 2)
    await world.pass_time(5)
    first.take()
    many = [await world.connect(f"n{n:03}") for n in range(20)]
    for n, client in enumerate(many):
        (told,) = [frame for frame in await client.ask("join", id=n, room="lobby") if frame["type"] == "room"]
        assert (told["id"], told["count"], len(told["page"])) == (n, MOST + 3 + n, MOST + 3 + n)
        assert "members" not in told
        await world.pass_time(0.1)
    await world.pass_time(5)
    counts = [told["count"] for told in rooms(first)]
    assert counts[0] == MOST + 3 and counts[-1] == MOST + 22
    assert len(counts) <= 4, "twenty joins in two seconds"


@lived(FLAGS)
async def test_a_member_sees_the_truth_when_the_room_is_small_again(world: World) -> None:
    members = await crowd(world, MOST + 2)
    await world.pass_time(2)
    first, *others = members
    assert "count" in rooms(first)[-1]
    for client in others[:5]:
        client.say("leave", room="lobby")
    await world.settle()
    told = rooms(first)[-1]
    assert sorted(member["user"] for member in told["members"]) == ["c000", *(f"c{n:03}" for n in range(6, 12))]
    others[5].say("leave", room="lobby")
    await world.settle()
    (told,) = rooms(first)
    assert [member["user"] for member in told["leaves"]] == ["c006"]


@lived(FLAGS)
async def test_a_page_is_given_to_members_only(world: World) -> None:
    members = await crowd(world, MOST + 2)
    (told,) = await members[0].ask("page", id=9, room="lobby", cursor="c003", limit=2)
    assert (told["id"], told["cursor"]) == (9, "c005")
    assert [member["user"] for member in told["page"]] == ["c004", "c005"]
    stranger = await world.connect("stranger")
    (refused,) = await stranger.ask("page", id=1, room="lobby")
    assert (refused["code"], refused["id"]) == ("bad_request", 1) and "join it first" in refused["message"]
    for wrong in ({"limit": 0}, {"limit": 1001}, {"room": ""}):
        (refused,) = await members[0].ask("page", id=2, **{"room": "lobby", **wrong})
        assert refused["code"] == "bad_request"


@lived(FLAGS)
async def test_a_page_of_a_room_that_is_not_known_is_refused_as_unavailable(world: World) -> None:
    (client,) = await crowd(world, 1)
    world.node.hub.rooms[LOBBY].loaded = False
    (refused,) = await client.ask("page", id=1, room="lobby")
    assert refused["code"] == "unavailable"


@lived(FLAGS)
async def test_nothing_is_kept_for_a_room_that_everybody_left_while_its_count_waited(world: World) -> None:
    members = await crowd(world, MOST + 2)
    members[0].say("leave", room="lobby")
    await world.settle()
    assert world.node.hub._held
    for client in members:
        client.say("bye")
    await world.settle(30)
    assert not world.node.hub._held and not world.node.hub.rooms
    await world.pass_time(3)


PEOPLE = 9
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["join", "leave", "away", "page"]), st.integers(0, PEOPLE - 1)),
        st.tuples(st.just("time"), st.sampled_from([0.1, 0.6, 1.5])),
        st.tuples(st.just("turn"), st.integers(0, 3)),
    ),
    max_size=40,
)


@settings(max_examples=120, deadline=None)
@given(STEPS)
def test_whoever_applies_all_that_comes_has_the_right_count_and_in_a_small_room_the_right_members(
    steps: list[tuple[str, float]],
) -> None:
    most = 5

    async def script(world: World) -> None:
        people = [await world.connect(f"p{n}", tab="t") for n in range(PEOPLE)]
        inside: set[int] = set()
        for what, value in steps:
            if what == "time":
                await world.pass_time(value)
            elif what == "turn":
                await world.settle(int(value))
            elif what == "away":
                people[int(value)].say("state", availability="away")
            else:
                people[int(value)].say(what, room="lobby")
                (inside.add if what == "join" else inside.discard)(int(value)) if what != "page" else None
        await world.pass_time(3)
        truth = {f"p{n}" for n in inside}
        assert {str(user) for user in world.store.ledger.rooms.get(LOBBY, set())} == truth
        for n in inside:
            book = Book()
            book.live = True
            for frame in people[n].raw:
                if b'"type":"room"' in frame:
                    book.apply_room(msgspec.json.decode(frame, type=Room))
            view = book.room("lobby")
            assert not view.stale and view.count == len(truth)
            shown = {user: world.shown(user) for user in truth}
            if len(truth) > most:
                assert view.counted
            elif len(truth) <= 0.8 * most:
                assert not view.counted
            if view.counted:
                assert view.members == () and view.statuses is not None
                assert sorted(view.statuses.items()) == sorted(
                    (status, list(shown.values()).count(status)) for status in set(shown.values())
                )
            else:
                assert {member.user: str(member.status) for member in view.members} == shown

    live(script, {**FLAGS, "rooms.count_only_above": most})
