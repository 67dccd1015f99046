"""From the 101 to the welcome."""

from __future__ import annotations

import pytest

from stillhere.server.peer import EARLY_MESSAGES
from tests.unit.server.clockwork import START
from tests.unit.server.world import World, lived


@lived()
async def test_the_welcome_says_who_and_where_one_is(world: World) -> None:
    ann = await world.connect("ann", sid="s_7", ttl=60)
    (welcome,) = ann.frames
    epoch = welcome.pop("epoch")
    assert epoch == str(world.store.ledger.state.epoch)
    assert welcome == {
        "type": "welcome",
        "connectionId": ann.id,
        "sessionId": "s_7",
        "user": "ann",
        "node": "n1",
        "heartbeatMs": 20_000,
        "serverAt": round(START * 1000),
        "expiresAt": round((START + 60) * 1000),
    }


@lived()
async def test_a_session_is_made_where_the_token_names_none(world: World) -> None:
    sessions = {(await world.connect("ann")).frames[0]["sessionId"] for _ in range(3)}
    assert len(sessions) == 3


@lived()
async def test_the_welcome_comes_only_after_the_acknowledgement(world: World) -> None:
    world.store.hold()
    ann = await world.connect("ann")
    await world.pass_time(60)
    assert ann.frames == [] and ann.code() is None
    world.store.release()
    await world.settle()
    assert [frame["type"] for frame in ann.frames] == ["welcome"]


@lived()
async def test_the_welcome_waits_until_a_store_that_fails_works_again(world: World) -> None:
    world.store.failing = True
    ann = await world.connect("ann")
    await world.pass_time(10)
    assert ann.frames == []
    assert world.node.ready == "the store is not reachable: the disk is full"
    world.store.failing = False
    await world.pass_time(1.5)
    assert [frame["type"] for frame in ann.frames] == ["welcome"]
    assert world.node.ready is None


@lived()
async def test_early_messages_are_kept_until_the_welcome_and_answered_in_order(world: World) -> None:
    world.store.hold()
    ann = await world.connect("ann")
    ann.say("ping", id=1)
    ann.write(b"{")
    ann.say("watch", id=2, users=["ann"])
    ann.say("ping", id=3)
    await world.settle()
    assert ann.frames == []
    world.store.release()
    await world.settle(20)
    welcome, *rest = ann.frames
    assert welcome["type"] == "welcome"
    assert [frame["type"] for frame in rest] == ["pong", "error", "pong", "snapshot"]


@lived()
async def test_a_bye_among_the_early_messages_ends_what_follows_it(world: World) -> None:
    world.store.hold()
    ann = await world.connect("ann")
    ann.say("bye")
    ann.say("ping", id=1)
    world.store.release()
    await world.settle()
    assert [frame["type"] for frame in ann.frames] == ["welcome"]
    assert ann.closed == (1000, "bye")


@lived({"limits.messages_per_second": 1000})
async def test_early_messages_are_bounded(world: World) -> None:
    world.store.hold()
    ann = await world.connect("ann")
    for _ in range(EARLY_MESSAGES):
        ann.say("ping")
    assert ann.code() is None
    ann.say("ping")
    assert ann.closed == (4000, "too many messages before the welcome")


@lived()
async def test_who_is_gone_before_the_acknowledgement_was_here_all_the_same(world: World) -> None:
    bob = await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    world.store.hold()
    ann = await world.connect("ann")
    ann.say("ping")
    ann.leave(1001)
    await world.settle()
    world.store.release()
    await world.settle()
    assert ann.frames == []
    assert [change["status"] for frame in bob.take() for change in frame["changes"]] == ["online"]
    await world.pass_time(9)
    assert [change["status"] for frame in bob.take() for change in frame["changes"]] == ["offline"]


# -- authentication by the first message ----------------------------------------------------------------------------


@lived()
async def test_the_first_message_may_authenticate(world: World) -> None:
    ann = await world.connect(None, tab="t1")
    assert ann.frames == [] and world.shown("ann") == "offline"
    ann.say("auth", token=world.token("ann"))
    ann.say("ping", id=1)
    await world.settle()
    assert [frame["type"] for frame in ann.frames] == ["welcome", "pong"]
    assert ann.frames[0]["connectionId"] == ann.peer.claim
    assert world.shown("ann") == "online"


@pytest.mark.parametrize(
    "message",
    [b"{", b'{"type":"ping"}', b'{"type":"bye"}', b'{"type":"shout"}', b'{"type":"watch","users":["a"]}', b""],
)
@lived()
async def test_a_first_message_that_is_not_auth_is_closed_with_4001(world: World, message: bytes) -> None:
    ann = await world.connect(None)
    ann.write(message)
    assert ann.closed == (4001, "the first message must be auth")


@lived()
async def test_a_first_message_with_a_bad_token_is_closed_with_4001(world: World) -> None:
    ann = await world.connect(None)
    (error,) = await ann.ask("auth", id=1, token="nonsense")
    assert (error["type"], error["id"], error["code"]) == ("error", 1, "unauthorized")
    assert ann.closed == (4001, "unauthorized")
    assert world.metric("stillhere_refused_upgrades_total", why="unauthorized") == 1
    assert "nonsense" not in str(world.log)


@lived()
async def test_who_does_not_authenticate_in_time_is_closed_with_4001(world: World) -> None:
    ann = await world.connect(None)
    await world.pass_time(4.9)
    assert ann.code() is None
    await world.pass_time(0.5)
    assert ann.closed == (4001, "no auth message in time")
    await world.pass_time(1)
    assert not world.leftovers()


@lived()
async def test_a_socket_that_never_authenticates_nor_closes_is_aborted(world: World) -> None:
    ann = await world.connect(None)
    ann.polite = False
    await world.pass_time(5.5)
    assert ann.code() is not None and not ann.aborted()
    await world.pass_time(5.5)
    assert ann.aborted()
    assert not world.leftovers()


@lived()
async def test_traffic_does_not_extend_the_time_to_authenticate(world: World) -> None:
    ann = await world.connect(None)
    for _ in range(6):
        await world.pass_time(1)
        ann.peer.on_heard()
    assert ann.closed == (4001, "no auth message in time")


# -- kicked, or late, between the verdict and the 101 ---------------------------------------------------------------


@lived()
async def test_who_is_kicked_between_the_verdict_and_the_101_is_told_so(world: World) -> None:
    verdict = world.greet("ann")
    assert world.node.disconnect(world.node.roster.users()[0]) == 1
    ann = world.open(verdict)  # type: ignore[arg-type]  # nothing is awaited here
    await world.settle()
    assert ann.code() == 4004
    assert world.shown("ann") == "offline"
    await world.pass_time(6)
    assert not world.leftovers()


@lived()
async def test_a_101_that_comes_after_the_handshake_timeout_is_closed_with_1013(world: World) -> None:
    verdict = world.greet("ann")
    await world.pass_time(6)
    ann = world.open(verdict)  # type: ignore[arg-type]  # nothing is awaited here
    await world.settle()
    assert ann.code() == 1013
    assert world.shown("ann") == "offline" and world.events("connection_established") == []
    await world.pass_time(6)
    assert not world.leftovers()


@lived()
async def test_a_101_that_never_comes_leaves_nothing_behind(world: World) -> None:
    world.greet("ann", ip="192.0.2.1")
    assert world.leftovers()
    await world.pass_time(6)
    assert not world.leftovers()


@lived()
async def test_a_first_message_that_is_binary_is_closed_with_4001(world: World) -> None:
    ann = await world.connect(None)
    ann.peer.on_binary(bytes(7))
    assert ann.closed == (4001, "the first message must be auth")


@lived()
async def test_a_violation_before_the_log_in_ends_the_connection(world: World) -> None:
    ann = await world.connect(None)
    ann.violate(1002, "reserved bits")
    ann.say("auth", token=world.token("ann"))
    await world.pass_time(6)
    assert ann.aborted() and world.shown("ann") == "offline" and not world.leftovers()
