"""The ``auth`` message: log in, or renew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from stillhere.server.auth import Authenticator, Identity, KeysUnavailable, TokenForged
from stillhere.server.secrets import Secret
from tests.unit.server.world import SECRET, World, lived


class _Later:
    """Waits for a key, then verifies."""

    def __init__(self, fetched: asyncio.Future[None], verify: Callable[[], Identity | Awaitable[Identity]]) -> None:
        self._fetched = fetched
        self._verify = verify

    def __await__(self) -> Generator[Any, None, Identity]:
        yield from self._fetched.__await__()
        found = self._verify()
        assert isinstance(found, Identity)
        return found


class Fetching(Authenticator):
    """Verifies as always, but where it is told so later: as if a key had to be fetched first."""

    def __init__(self) -> None:
        super().__init__(secret=Secret(SECRET))
        self.waiting: list[asyncio.Future[None]] = []
        self.fetches = False

    def verify(self, token: str | bytes, now: float) -> Identity | Awaitable[Identity]:
        if not self.fetches:
            return super().verify(token, now)
        fetched: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(fetched)
        return _Later(fetched, lambda: super(Fetching, self).verify(token, now))


def fetching(world: World) -> Fetching:
    """The world's authenticator, which fetches from now on."""
    authenticator = Fetching()
    authenticator.fetches = True
    world.node.authenticator = authenticator
    return authenticator


# -- renewal --------------------------------------------------------------------------------------------------------


@lived()
async def test_a_renewed_token_extends_the_connection(world: World) -> None:
    ann = await world.connect("ann", ttl=60)
    await world.pass_time(50)
    assert await ann.ask("auth", id=1, token=world.token("ann", ttl=100)) == [{"type": "ok", "id": 1}]
    await world.pass_time(98)
    assert ann.code() is None
    await world.pass_time(3)
    assert ann.code() == 4001


@lived()
async def test_a_token_that_ends_earlier_ends_the_connection_earlier(world: World) -> None:
    ann = await world.connect("ann", ttl=600)
    await ann.ask("auth", token=world.token("ann", ttl=5))
    await world.pass_time(5.5)
    assert ann.code() == 4001


@lived()
async def test_a_token_of_another_user_is_refused_and_the_connection_stays(world: World) -> None:
    ann = await world.connect("ann", ttl=60)
    (error,) = await ann.ask("auth", id=1, token=world.token("bob"))
    assert (error["code"], error["id"]) == ("forbidden", 1)
    assert ann.code() is None and world.shown("bob") == "offline"
    await world.pass_time(61)
    assert ann.code() == 4001


@pytest.mark.parametrize("token", ["", "a.b.c", "ü"])
@lived()
async def test_a_bad_token_on_a_live_connection_is_refused_and_the_connection_stays(world: World, token: str) -> None:
    ann = await world.connect("ann")
    (error,) = await ann.ask("auth", id=1, token=token)
    assert (error["code"], error["id"]) == ("unauthorized", 1)
    assert (await ann.ask("ping"))[0]["type"] == "pong"


@lived()
async def test_an_expired_token_renews_nothing(world: World) -> None:
    ann = await world.connect("ann", ttl=60)
    token = world.token("ann", ttl=10)
    await world.pass_time(20)
    (error,) = await ann.ask("auth", token=token)
    assert error["code"] == "unauthorized"
    await world.pass_time(20)
    assert ann.code() is None


@lived()
async def test_a_renewal_changes_whom_one_may_watch(world: World) -> None:
    ann = await world.connect("ann", watch=None)
    await world.connect("bob")
    assert (await ann.ask("query", users=["bob"]))[0]["users"][0]["status"] == "offline"
    await ann.ask("auth", token=world.token("ann", watch=["bob"]))
    assert (await ann.ask("query", users=["bob"]))[0]["users"][0]["status"] == "online"


# -- where a key has to be fetched first ----------------------------------------------------------------------------


@lived()
async def test_messages_that_follow_auth_wait_for_the_key_and_then_for_the_welcome(world: World) -> None:
    authenticator = fetching(world)
    ann = await world.connect(None)
    ann.say("auth", token=world.token("ann"))
    ann.say("ping", id=1)
    await world.settle()
    assert ann.frames == [] and ann.code() is None
    authenticator.waiting[0].set_result(None)
    await world.settle()
    assert [frame["type"] for frame in ann.frames] == ["welcome", "pong"]


@lived()
async def test_a_key_that_cannot_be_fetched_in_time_does_not_keep_the_connection_open(world: World) -> None:
    authenticator = fetching(world)
    ann = await world.connect(None)
    ann.say("auth", token=world.token("ann"))
    await world.pass_time(5.5)
    assert ann.closed == (4001, "no auth message in time")
    authenticator.waiting[0].set_result(None)
    await world.settle()
    assert world.shown("ann") == "offline" and not world.leftovers()


@lived()
async def test_a_token_that_turns_out_bad_closes_with_4001(world: World) -> None:
    authenticator = fetching(world)
    ann = await world.connect(None)
    ann.say("auth", id=1, token=world.token("ann"))
    ann.say("ping", id=2)
    await world.settle()
    authenticator.waiting[0].set_exception(TokenForged("the key is another's"))
    await world.settle()
    assert [(frame["code"], frame["id"]) for frame in ann.frames] == [("unauthorized", 1)]
    assert ann.closed == (4001, "unauthorized")


@lived()
async def test_a_token_that_cannot_be_judged_now_is_not_called_a_bad_one(world: World) -> None:
    authenticator = fetching(world)
    ann = await world.connect(None)
    ann.say("auth", id=1, token=world.token("ann"))
    await world.settle()
    authenticator.waiting[0].set_exception(KeysUnavailable("the issuer does not answer"))
    await world.settle()
    assert [(frame["code"], frame["id"]) for frame in ann.frames] == [("unavailable", 1)]
    assert ann.closed == (1013, "unavailable")


@lived()
async def test_who_leaves_while_the_key_is_fetched_is_let_in_no_more(world: World) -> None:
    authenticator = fetching(world)
    for good in (True, False):
        ann = await world.connect(None)
        ann.say("auth", token=world.token("ann"))
        await world.settle()
        ann.drop()
        if good:
            authenticator.waiting.pop().set_result(None)
        else:
            authenticator.waiting.pop().set_exception(TokenForged("bad"))
        await world.settle()
    assert world.shown("ann") == "offline" and not world.leftovers()


@lived()
async def test_a_renewal_may_wait_for_a_key_while_everything_goes_on(world: World) -> None:
    ann = await world.connect("ann", ttl=60)
    authenticator = fetching(world)
    ann.take()
    ann.say("auth", id=1, token=world.token("ann", ttl=100))
    assert await ann.ask("ping", id=2) == [{"type": "pong", "id": 2}]
    await world.pass_time(1)
    authenticator.waiting[0].set_result(None)
    await world.settle()
    assert ann.take() == [{"type": "ok", "id": 1}]
    await world.pass_time(60)
    assert ann.code() is None


# -- what the gate says late ----------------------------------------------------------------------------------------


@lived({"limits.connections_per_user": 1})
async def test_the_cap_per_user_holds_for_a_late_log_in(world: World) -> None:
    await world.connect("ann")
    second = await world.connect(None)
    (error,) = await second.ask("auth", id=1, token=world.token("ann"))
    assert (error["code"], error["id"]) == ("too_many", 1)
    assert second.closed == (4100, "limits.connections_per_user is reached")
    await world.settle()
    assert world.node.gate.caps.of_user("ann") == 1


@lived(application=lambda: lambda identity, request: True)
async def test_where_the_application_has_a_word_the_token_must_come_with_the_upgrade(world: World) -> None:
    ann = await world.connect(None)
    (error,) = await ann.ask("auth", token=world.token("ann"))
    assert error["code"] == "unauthorized"
    assert ann.code() == 4001
