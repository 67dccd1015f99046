"""What the messages of a client mean, and every way in which one is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.server.world import Client, World, lived


async def refusal(client: Client, type: str, **fields: Any) -> tuple[str, str]:
    """The code and text with which a message is refused; the connection stays."""
    (answer,) = await client.ask(type, id="q", **fields)
    assert answer["type"] == "error" and answer["id"] == "q", answer
    assert client.code() is None
    return answer["code"], answer["message"]


def statuses(answer: dict[str, Any]) -> dict[str, str]:
    return {user["user"]: user["status"] for user in answer["users"]}


# -- watch, unwatch, query ------------------------------------------------------------------------------------------


@lived()
async def test_watch_is_answered_by_a_snapshot_in_the_order_of_the_request(world: World) -> None:
    await world.connect("bob")
    ann = await world.connect("ann")
    (answer,) = await ann.ask("watch", id=1, users=["zoe", "bob", "ann", "bob"])
    assert (answer["type"], answer["id"], answer["complete"]) == ("snapshot", 1, True)
    assert list(statuses(answer).items()) == [("zoe", "offline"), ("bob", "online"), ("ann", "online")]


@lived()
async def test_a_watched_user_is_followed_until_unwatch(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await ann.ask("watch", users=["bob"])
    await bob.ask("state", availability="busy")
    (frame,) = ann.take()
    assert statuses({"users": frame["changes"]}) == {"bob": "busy"}
    assert await ann.ask("unwatch", id=2, users=["bob", "zoe"]) == [{"type": "ok", "id": 2}]
    await bob.ask("state", availability="away")
    assert ann.take() == []
    assert world.node.hub.users == {}


@lived()
async def test_unwatch_holds_although_the_snapshot_is_still_on_its_way(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    world.store.before = 3
    ann.take()
    ann.say("watch", id=1, users=["bob", "zoe"])
    ann.say("unwatch", id=2, users=["bob"])
    await world.settle(20)
    assert {answer["type"] for answer in ann.take()} == {"snapshot", "ok"}
    await bob.ask("state", availability="away")
    assert ann.take() == []
    assert set(world.node.hub.users) == {"zoe"}


@lived()
async def test_watching_twice_is_watching_once(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await ann.ask("watch", users=["bob"])
    (answer,) = await ann.ask("watch", id=2, users=["bob"])
    assert statuses(answer) == {"bob": "online"}
    await bob.ask("state", availability="away")
    assert len(ann.take()) == 1
    await ann.ask("unwatch", users=["bob"])
    await bob.ask("state", availability="busy")
    assert ann.take() == []


@lived()
async def test_query_answers_once_and_follows_nobody(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    (answer,) = await ann.ask("query", id="q", users=["bob", "zoe"])
    assert (answer["type"], answer["id"]) == ("snapshot", "q")
    assert statuses(answer) == {"bob": "online", "zoe": "offline"}
    await bob.ask("state", availability="away")
    assert ann.take() == []
    assert world.node.hub.users == {}


@lived()
async def test_a_query_for_nobody_is_answered(world: World) -> None:
    ann = await world.connect("ann")
    (answer,) = await ann.ask("query", id=1, users=[])
    assert answer == {"type": "snapshot", "id": 1, "users": [], "complete": True}


@pytest.mark.parametrize("type", ["watch", "unwatch", "query"])
@pytest.mark.parametrize(
    ("user", "why"),
    [("", "is empty"), ("a" * 257, "has 257 bytes"), ("a\x00b", "control character"), ("a\u2028b", "control")],
    ids=["empty", "long", "NUL", "line separator"],
)
@lived()
async def test_a_bad_user_id_refuses_the_whole_request(world: World, type: str, user: str, why: str) -> None:
    ann = await world.connect("ann")
    code, message = await refusal(ann, type, users=["bob", user])
    assert code == "bad_request" and message.startswith("a user id ") and why in message
    assert world.node.hub.users == {}


@lived({"limits.watch": 3, "limits.queries": 2})
async def test_no_more_users_are_watched_than_the_limit_allows(world: World) -> None:
    ann = await world.connect("ann")
    assert await refusal(ann, "watch", users=["1", "2", "3", "4"]) == (
        "too_many",
        "4 users in one message; 3 are allowed",
    )
    await ann.ask("watch", users=["1", "2"])
    code, message = await refusal(ann, "watch", users=["2", "3", "4"])
    assert code == "too_many" and "2 users are watched and 2 are new; limits.watch allows 3" in message
    assert (await ann.ask("watch", users=["1", "2", "3"]))[0]["type"] == "snapshot"
    assert (await refusal(ann, "unwatch", users=["1", "2", "3", "4"]))[0] == "too_many"
    await ann.ask("unwatch", users=["1"])
    assert (await ann.ask("watch", users=["4"]))[0]["type"] == "snapshot"
    assert (await refusal(ann, "query", users=["1", "2", "3"]))[0] == "too_many"
    assert set(world.node.hub.users) == {"2", "3", "4"}


@lived({"limits.watch": 3})
async def test_the_limit_holds_for_watches_that_are_not_answered_yet(world: World) -> None:
    ann = await world.connect("ann")
    world.store.before = 5
    ann.take()
    for i in range(4):
        ann.say("watch", id=i, users=[f"{i}a", f"{i}b"])
    await world.settle(30)
    answers = {answer["id"]: answer["type"] for answer in ann.take()}
    assert answers == {0: "snapshot", 1: "error", 2: "error", 3: "error"}
    assert set(world.node.hub.users) == {"0a", "0b"}


@lived({"limits.messages_per_second": 1000})
async def test_look_ups_that_wait_are_bounded_and_a_refused_one_leaves_nothing(world: World) -> None:
    ann = await world.connect("ann")
    world.store.unreadable = True
    await ann.ask("query", users=["first"])
    for i in range(70):
        ann.say("query", id=i, users=[f"u{i}"])
    refused = [answer["id"] for answer in ann.take() if answer["type"] == "error"]
    assert refused == list(range(64, 70))
    assert {answer["code"] for answer in ann.of("error")} == {"too_many"}
    assert (await refusal(ann, "join", room="r"))[0] == "too_many"
    await world.pass_time(1)
    assert len(ann.of("snapshot")) == 1 + 64
    assert world.node.hub.users == {} and world.node.hub.rooms == {}
    world.store.unreadable = False
    await world.pass_time(1)
    assert (await ann.ask("query", users=["after"]))[0]["complete"]


# -- visibility -----------------------------------------------------------------------------------------------------


@lived()
async def test_who_may_not_be_seen_is_answered_like_one_who_does_not_exist_byte_for_byte(world: World) -> None:
    await world.connect("bob")
    ann = await world.connect("ann", watch=["carl"])
    for type in ("query", "watch"):
        await ann.ask(type, id=1, users=["bob"])
        hidden = ann.raw[-1]
        await ann.ask(type, id=1, users=["carl"])
        assert hidden == ann.raw[-1].replace(b"carl", b"bob")


@lived()
async def test_who_may_not_be_seen_is_not_followed_and_takes_no_topic(world: World) -> None:
    bob = await world.connect("bob")
    ann = await world.connect("ann", watch=["team:*"])
    await ann.ask("watch", users=["bob", "team:eve", "team:"])
    assert set(world.node.hub.users) == {"team:eve", "team:"}
    await bob.ask("state", availability="away")
    assert ann.take() == []


@lived()
async def test_a_token_without_the_claim_lets_see_oneself_only(world: World) -> None:
    await world.connect("bob")
    ann = await world.connect("ann", watch=None)
    (answer,) = await ann.ask("query", users=["ann", "bob"])
    assert statuses(answer) == {"ann": "online", "bob": "offline"}


# -- rooms ----------------------------------------------------------------------------------------------------------


@lived()
async def test_join_is_answered_by_the_members_oneself_included(world: World) -> None:
    ann, bob = await world.connect("ann", info={"n": 1}), await world.connect("bob")
    await ann.ask("join", room="r", meta={"seat": 1})
    (answer,) = await bob.ask("join", id=9, room="r")
    assert (answer["type"], answer["room"], answer["id"]) == ("room", "r", 9)
    members = {member["user"]: member for member in answer["members"]}
    assert set(members) == {"ann", "bob"}
    assert members["ann"]["info"] == {"n": 1}
    assert members["ann"]["metas"] == [{"connectionId": ann.id, "meta": {"seat": 1}}]
    assert members["bob"]["metas"] == [{"connectionId": bob.id, "meta": {}}]
    (frame,) = ann.take()
    assert [member["user"] for member in frame["joins"]] == ["bob"]


@lived()
async def test_joining_again_changes_the_meta(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await ann.ask("join", room="r")
    await bob.ask("join", room="r")
    ann.take()
    await bob.ask("join", room="r", meta={"seat": 2})
    (frame,) = ann.take()
    assert [member["metas"][0]["meta"] for member in frame["updates"]] == [{"seat": 2}]


@lived()
async def test_leave_is_at_once_and_answered(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await ann.ask("join", room="r")
    await bob.ask("join", room="r")
    ann.take()
    assert await bob.ask("leave", id=4, room="r") == [{"type": "ok", "id": 4}]
    (frame,) = ann.take()
    assert [set(member) for member in frame["leaves"]] == [{"user", "status", "epoch", "version"}]
    await ann.ask("join", room="r", meta={"a": 1})
    assert bob.take() == [], "who left is told nothing more"


@lived()
async def test_leaving_a_room_that_one_is_not_in_is_answered_too(world: World) -> None:
    ann = await world.connect("ann")
    assert await ann.ask("leave", id=4, room="r") == [{"type": "ok", "id": 4}]


@lived()
async def test_a_join_that_is_overtaken_by_a_leave_is_answered_and_follows_nothing(world: World) -> None:
    ann = await world.connect("ann")
    world.store.hold()
    ann.take()
    ann.say("join", id=1, room="r")
    ann.say("leave", id=2, room="r")
    await world.settle()
    assert ann.take() == []
    world.store.release()
    await world.settle(20)
    assert sorted(answer["id"] for answer in ann.take()) == [1, 2]
    assert world.node.hub.rooms == {}


@lived()
async def test_a_join_that_is_overtaken_by_a_leave_and_a_join_follows(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    world.store.before = 3
    ann.take()
    for id, type in enumerate(("join", "leave", "join")):
        ann.say(type, id=id, room="r")
    await world.settle(40)
    assert sorted(answer["id"] for answer in ann.take()) == [0, 1, 2]
    await bob.ask("join", room="r")
    await world.settle(20)
    assert [frame["joins"][0]["user"] for frame in ann.take()] == ["bob"]


@lived()
async def test_a_room_that_the_token_does_not_allow_is_forbidden(world: World) -> None:
    ann = await world.connect("ann", rooms=["team:*"])
    code, message = await refusal(ann, "join", room="other")
    assert code == "forbidden" and "'other'" in message
    assert (await ann.ask("join", room="team:7"))[0]["type"] == "room"
    assert set(world.node.hub.rooms) == {"team:7"}


@lived({"limits.rooms": 2})
async def test_no_more_rooms_are_joined_than_the_limit_allows(world: World) -> None:
    ann = await world.connect("ann")
    for room in ("a", "b"):
        await ann.ask("join", room=room)
    code, message = await refusal(ann, "join", room="c")
    assert code == "too_many" and "in 2 rooms; limits.rooms allows 2" in message
    assert (await ann.ask("join", room="b"))[0]["type"] == "room"
    await ann.ask("leave", room="a")
    assert (await ann.ask("join", room="c"))[0]["type"] == "room"


@pytest.mark.parametrize("type", ["join", "leave"])
@lived()
async def test_a_bad_room_name_is_refused(world: World, type: str) -> None:
    ann = await world.connect("ann")
    code, message = await refusal(ann, type, room="a\tb")
    assert code == "bad_request" and message.startswith("the room name holds a control character")


# -- state ----------------------------------------------------------------------------------------------------------


@lived()
async def test_state_is_answered_when_it_is_acknowledged_and_shown(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    world.store.hold()
    assert await ann.ask("state", id=5, availability="away", meta={"mood": "tired"}) == []
    assert bob.take() == [], "nobody is told what is not acknowledged"
    world.store.release()
    await world.settle()
    assert ann.take() == [{"type": "ok", "id": 5}]
    (frame,) = bob.take()
    assert frame["changes"][0]["status"] == "away" and frame["changes"][0]["meta"] == {"mood": "tired"}


@lived()
async def test_meta_is_merged_and_null_deletes_a_key(world: World) -> None:
    ann = await world.connect("ann")
    await ann.ask("state", meta={"a": 1, "b": {"c": 2}})
    await ann.ask("state", meta={"a": None, "b": {"d": 3}, "e": None})
    (answer,) = await ann.ask("query", users=["ann"])
    assert answer["users"][0]["meta"] == {"b": {"d": 3}}


@lived()
async def test_state_needs_something_to_say(world: World) -> None:
    ann = await world.connect("ann")
    assert await refusal(ann, "state") == ("bad_request", "state needs availability, meta or both")


@lived({"limits.meta_bytes": 20})
async def test_meta_is_bounded_as_it_would_be_after_the_merge(world: World) -> None:
    ann = await world.connect("ann")
    assert (await ann.ask("state", meta={"a": "123456", "b": 1}))[0]["type"] == "ok"  # 20 bytes
    code, message = await refusal(ann, "state", meta={"c": 1})
    assert code == "too_large" and "26 bytes; limits.meta_bytes allows 20" in message
    assert (await refusal(ann, "join", room="r", meta={"a": "x" * 20}))[0] == "too_large"
    assert (await ann.ask("state", meta={"b": None, "never": None}))[0]["type"] == "ok", "to delete is always allowed"


@pytest.mark.parametrize("meta", ['{"x":' + "[" * 400 + "]" * 400 + "}", '{"x":99999999999999999999}'])
@lived()
async def test_meta_that_could_not_be_kept_is_refused_and_harms_nobody(world: World, meta: str) -> None:
    ann = await world.connect("ann")
    ann.write(b'{"type":"state","id":1,"meta":%s}' % meta.encode())
    ann.write(b'{"type":"join","id":2,"room":"r","meta":%s}' % meta.encode())
    await world.settle()
    assert [answer["code"] for answer in ann.of("error")] == ["bad_request", "bad_request"]


# -- the others -----------------------------------------------------------------------------------------------------


@lived()
async def test_ping_is_answered_by_pong(world: World) -> None:
    ann = await world.connect("ann")
    assert await ann.ask("ping", id=7) == [{"type": "pong", "id": 7}]
    assert await ann.ask("ping") == [{"type": "pong"}]


@lived()
async def test_an_id_of_more_than_64_characters_is_refused_and_not_repeated(world: World) -> None:
    ann = await world.connect("ann")
    assert (await ann.ask("ping", id="x" * 64))[0]["type"] == "pong"
    (answer,) = await ann.ask("ping", id="x" * 65)
    assert answer["code"] == "bad_request" and "id" not in answer


@lived()
async def test_bye_is_offline_at_once_and_closed_with_1000(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    assert await ann.ask("bye", id=1) == [{"type": "ok", "id": 1}]
    assert ann.closed == (1000, "bye") and ann.lost
    (frame,) = bob.take()
    assert frame["changes"][0]["status"] == "offline"
    assert world.clock.elapsed < 0.1


@lived()
async def test_bye_ends_the_windows_of_its_session_and_of_no_other(world: World) -> None:
    for session, expected in (("one", "offline"), ("two", "online")):
        first = await world.connect(f"ann {session}", sid="one")
        second = await world.connect(f"ann {session}", sid=session)
        first.leave(1001)
        await world.settle()
        await second.ask("bye")
        assert world.shown(f"ann {session}") == expected


@lived()
async def test_bye_while_another_tab_is_open_shows_nothing(world: World) -> None:
    first, second = await world.connect("ann"), await world.connect("ann")
    bob = await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    await first.ask("bye")
    await world.pass_time(60)
    assert bob.take() == [] and second.code() is None


@lived()
async def test_nothing_is_answered_after_bye(world: World) -> None:
    ann = await world.connect("ann")
    ann.polite = False
    await ann.ask("bye")
    assert await ann.ask("ping", id=1) == []


# -- what cannot be understood --------------------------------------------------------------------------------------


@lived()
async def test_a_message_that_cannot_be_understood_is_refused_and_the_connection_stays(world: World) -> None:
    ann = await world.connect("ann")
    for message in (b"{", b'{"type":"shout"}', b'{"type":"watch","users":7}', b"[" * 5000):
        ann.take()
        ann.write(message)
        (answer,) = ann.take()
        assert answer["type"] == "error" and answer["code"] == "bad_request"
    assert (await ann.ask("ping", id=1))[0]["type"] == "pong"
    assert world.metric("stillhere_messages_received_total", type="invalid") == 4
    assert world.metric("stillhere_errors_sent_total", code="bad_request") == 4


@lived({"limits.messages_per_second": 1000})
async def test_the_hundredth_in_a_row_that_cannot_be_understood_ends_the_connection(world: World) -> None:
    ann = await world.connect("ann")
    for _ in range(99):
        ann.write(b"{")
    assert ann.code() is None
    ann.say("ping")
    for _ in range(99):
        ann.write(b"{")
    assert ann.code() is None, "one that is in order starts the count again"
    ann.write(b"{")
    assert ann.code() == 4000
    await world.settle()
    assert world.fields("active_socket_closed")["cause"] == "protocol_error"


@lived()
async def test_a_binary_message_is_refused_and_the_hundredth_ends_the_connection(world: World) -> None:
    ann = await world.connect("ann")
    ann.take()
    ann.peer.on_binary(bytes(3))
    (answer,) = ann.take()
    assert answer["code"] == "bad_request" and "binary message of 3 bytes" in answer["message"]
    for _ in range(99):
        ann.peer.on_binary(bytes(3))
    assert ann.code() == 4000


@lived({"limits.messages_per_second": 20})
async def test_who_sends_faster_than_the_limit_is_told_so_and_then_closed(world: World) -> None:
    ann = await world.connect("ann")
    ann.take()
    for _ in range(40):
        ann.say("ping")
    assert {answer["type"] for answer in ann.take()} == {"pong"}
    ann.say("ping", id=1)
    (answer,) = ann.take()
    assert answer["code"] == "rate_limited" and "20 messages a second" in answer["message"]
    await world.pass_time(1)
    for _ in range(20):
        ann.say("ping")
    assert {answer["type"] for answer in ann.take()} == {"pong"}
    for _ in range(100):
        assert ann.code() is None
        ann.say("ping")
    assert ann.closed == (4101, "too many messages")


@lived({"limits.messages_per_second": 1000})
async def test_messages_are_counted_by_type(world: World) -> None:
    ann = await world.connect("ann")
    for _ in range(3):
        await ann.ask("ping")
    assert world.metric("stillhere_messages_received_total", type="ping") == 3
