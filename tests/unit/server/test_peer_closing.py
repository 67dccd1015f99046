"""How a connection ends, and how long that may take."""

from __future__ import annotations

import pytest

from stillhere.core.words import UserId
from tests.unit.server.world import World, lived


@lived()
async def test_an_expired_token_closes_with_4001_and_the_connection_counts_until_it_is_closed(world: World) -> None:
    ann = await world.connect("ann", ttl=60)
    ann.polite = False
    await world.pass_time(59)
    assert ann.code() is None
    await world.pass_time(1.5)
    assert ann.closed == (4001, "the token has expired")
    assert ann.ready() == "CLOSING"
    assert world.node.roster.active_count(UserId("ann")) == 1 and not ann.aborted()
    await world.pass_time(4)
    assert world.node.roster.active_count(UserId("ann")) == 1
    await world.pass_time(1.5)
    assert ann.aborted() and ann.lost
    assert world.shown("ann") == "online", "the window of `expired` is 15 s"
    await world.pass_time(15.5)
    assert world.shown("ann") == "offline"
    assert world.fields("PRESENCE_OFFLINE")["cause"] == "expired"
    assert not world.leftovers()


@lived()
async def test_the_expiry_is_met_even_while_the_client_talks(world: World) -> None:
    ann = await world.connect("ann", ttl=30)
    for _ in range(31):
        ann.say("ping")
        await world.pass_time(1)
    assert ann.code() == 4001


@lived()
async def test_an_expiry_beyond_the_reach_of_the_wheel_is_met(world: World) -> None:
    ann = await world.connect("ann", ttl=1000)
    await world.pass_time(999)
    assert ann.code() is None
    await world.pass_time(2)
    assert ann.code() == 4001


@pytest.mark.parametrize(
    ("code", "cause", "window"),
    [
        (1000, "client_close", 3),
        (1001, "going_away", 8),
        (1005, "client_close", 3),
        (4900, "page_hidden", 8),
        (4242, "client_close", 3),
        (1002, "protocol_error", 5),
    ],
)
@lived()
async def test_the_close_frame_of_a_client_opens_the_window_of_its_code(
    world: World, code: int, cause: str, window: float
) -> None:
    ann = await world.connect("ann")
    ann.leave(code)
    await world.settle()
    assert (world.fields("grace_started")["cause"], world.fields("grace_started")["windowMs"]) == (cause, window * 1000)
    assert (world.fields("active_socket_closed")["code"], world.fields("active_socket_closed")["cause"]) == (
        code,
        cause,
    )
    await world.pass_time(window - 0.3)
    assert world.shown("ann") == "online"
    await world.pass_time(0.6)
    assert world.shown("ann") == "offline"


@lived()
async def test_an_end_without_a_close_frame_is_abnormal(world: World) -> None:
    ann = await world.connect("ann")
    ann.drop(ConnectionResetError("reset"))
    await world.settle()
    assert world.fields("grace_started")["windowMs"] == 15_000
    closed = world.fields("ws_closed")
    assert (closed["cause"], closed["error"]) == ("abnormal", "ConnectionResetError")
    assert world.metric("stillhere_disconnects_total", cause="abnormal", code="1006") == 1


@lived()
async def test_a_broken_rule_of_the_protocol_is_a_protocol_error(world: World) -> None:
    ann = await world.connect("ann")
    ann.polite = False
    ann.violate(1007, "invalid UTF-8")
    await world.settle()
    assert world.fields("active_socket_closing")["cause"] == "protocol_error"
    ann.say("ping")
    assert ann.of("pong") == []
    await world.pass_time(5.5)
    assert ann.aborted() and not world.node.peers


@lived()
async def test_a_client_that_sent_a_close_frame_and_never_ends_tcp_is_aborted_in_time(world: World) -> None:
    ann = await world.connect("ann")
    ann.close_frame(1001)
    await world.pass_time(4)
    assert not ann.aborted() and ann.ready() == "CLOSING"
    ann.peer.on_heard()
    await world.pass_time(1.5)
    assert ann.aborted() and ann.lost
    assert world.fields("active_socket_closed")["cause"] == "going_away"


@lived()
async def test_an_abort_that_the_transport_does_not_report_is_repeated(world: World) -> None:
    ann = await world.connect("ann", ttl=10)
    ann.polite = False
    aborts = 0

    def abort() -> None:
        nonlocal aborts
        aborts += 1

    ann.abort = abort  # type: ignore[method-assign]  # a transport that hangs
    await world.pass_time(40)
    assert aborts >= 3
    assert world.events("active_socket_closed") == ["active_socket_closed"]
    ann.drop()
    await world.pass_time(20)
    assert not world.leftovers()


@lived()
async def test_who_is_closing_is_told_nothing_more_and_follows_nothing(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob", ttl=10)
    bob.polite = False
    await bob.ask("watch", users=["ann"])
    await bob.ask("join", room="r")
    await world.pass_time(10.5)
    assert bob.code() is not None
    assert world.node.hub.users == {} and world.node.hub.rooms == {}
    bob.take()
    await ann.ask("state", availability="away")
    bob.say("ping")
    bob.peer.on_binary(bytes(4))
    assert bob.take() == []


@lived()
async def test_a_late_and_a_repeated_close_frame_change_nothing(world: World) -> None:
    ann = await world.connect("ann")
    ann.close_frame(1001)
    ann.close_frame(1000)
    ann.drop()
    await world.settle()
    assert world.fields("active_socket_closed")["cause"] == "going_away"
    assert world.events("active_socket_closing") == ["active_socket_closing"]
