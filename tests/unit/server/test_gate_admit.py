"""The application's own word about an upgrade; while it thinks, the upgrade is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from stillhere.server.auth import Identity
from stillhere.server.socket import Refusal, UpgradeRequest, Verdict
from tests.unit.server.world import Client, World, lived


class Application:
    """Says at once what it is told to, or lets the world wait for an answer."""

    def __init__(self) -> None:
        self.answer: bool | Exception | None = True
        """None: later."""
        self.asked: list[tuple[Identity, UpgradeRequest]] = []
        self.waiting: list[asyncio.Future[bool]] = []

    def __call__(self, identity: Identity, request: UpgradeRequest) -> bool | Awaitable[bool]:
        self.asked.append((identity, request))
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return future


def application(world: World) -> Application:
    admit = world.node.gate._admit
    assert isinstance(admit, Application)
    return admit


async def in_flight(world: World, user: str, **options: Any) -> asyncio.Future[Verdict]:
    """Begin an upgrade that the application thinks about."""
    application(world).answer = None
    verdict = world.greet(user, **options)
    assert isinstance(verdict, Awaitable)
    answer = asyncio.ensure_future(verdict)
    await world.settle()
    assert not answer.done()
    return answer


async def held(world: World) -> Client:
    """Bob, who watches Ann, whose last connection ended a moment ago with a window of 8 s."""
    bob, ann = await world.connect("bob"), await world.connect("ann", tab="old")
    await bob.ask("watch", users=["ann"])
    ann.leave(1001)
    await world.settle()
    return bob


def told(bob: Client) -> list[str]:
    return [change["status"] for frame in bob.take() if frame["type"] == "presence" for change in frame["changes"]]


@lived(application=Application)
async def test_the_application_is_asked_after_the_authentication_and_told_what_it_needs(world: World) -> None:
    await world.refused("ann", token="nonsense")
    assert application(world).asked == []
    await world.connect("ann", tab="t", query={"extra": "1"}, ip="192.0.2.7")
    ((identity, request),) = application(world).asked
    assert (identity.user, request.query["extra"], request.remote) == ("ann", "1", "192.0.2.7")


@lived(application=Application)
async def test_a_no_is_403_and_leaves_nothing(world: World) -> None:
    application(world).answer = False
    refusal = await world.refused("ann")
    assert refusal.status == 403
    assert not world.leftovers()


@lived(application=Application)
async def test_an_application_that_fails_at_once_is_503_and_leaves_nothing(world: World) -> None:
    application(world).answer = ValueError("a mistake")
    refusal = await world.refused("ann")
    assert refusal.status == 503 and "Retry-After" in refusal.headers
    assert "a mistake" not in refusal.body.decode()
    assert world.fields("admit_failed")["user"] == "ann"
    assert not world.leftovers()


@lived(application=Application)
async def test_a_yes_that_takes_its_time_is_welcome(world: World) -> None:
    answer = await in_flight(world, "ann")
    assert world.shown("ann") == "offline", "who is on his way is not here yet"
    await world.pass_time(3)
    application(world).waiting[0].set_result(True)
    ann = world.open(await answer)
    await world.settle()
    assert ann.frames[0]["type"] == "welcome" and world.shown("ann") == "online"


@lived(application=Application)
async def test_while_an_upgrade_is_in_flight_offline_waits_and_a_yes_shows_nothing(world: World) -> None:
    bob = await held(world)
    await world.pass_time(6)
    answer = await in_flight(world, "ann")
    await world.pass_time(4)
    assert told(bob) == []
    application(world).waiting[0].set_result(True)
    world.open(await answer)
    await world.pass_time(60)
    assert told(bob) == []


@pytest.mark.parametrize("outcome", ["no", "failure", "the client leaves"])
@lived(application=Application)
async def test_when_the_upgrade_in_flight_fails_offline_is_at_once(world: World, outcome: str) -> None:
    bob = await held(world)
    await world.pass_time(6)
    answer = await in_flight(world, "ann")
    await world.pass_time(4)
    assert told(bob) == []
    if outcome == "no":
        application(world).waiting[0].set_result(False)
        verdict = await answer
        assert isinstance(verdict, Refusal) and verdict.status == 403
    elif outcome == "failure":
        application(world).waiting[0].set_exception(OSError("the database is away"))
        verdict = await answer
        assert isinstance(verdict, Refusal) and verdict.status == 503
        assert "OSError" in world.fields("admit_failed")["error"]
    else:
        answer.cancel()
    await world.settle(20)
    assert told(bob) == ["offline"]
    bob.drop()
    await world.pass_time(20)
    assert not world.leftovers()


@lived(application=Application)
async def test_an_answer_that_takes_too_long_holds_offline_for_the_handshake_timeout_only(world: World) -> None:
    bob = await held(world)
    await world.pass_time(6)
    answer = await in_flight(world, "ann")
    await world.pass_time(4.5)
    assert told(bob) == []
    await world.pass_time(1)
    assert told(bob) == ["offline"]
    application(world).waiting[0].set_result(True)
    verdict = await answer
    assert isinstance(verdict, Refusal) and verdict.status == 503 and "Retry-After" in verdict.headers


@lived(application=Application)
async def test_a_client_that_leaves_before_the_first_step_leaves_nothing(world: World) -> None:
    """A coroutine that is cancelled before it began could not clean up after itself."""
    application(world).answer = None
    answer = asyncio.ensure_future(world.greet("ann"))  # type: ignore[arg-type]  # it is awaitable here
    answer.cancel()
    await world.settle()
    assert not world.leftovers()


@lived(application=Application)
async def test_a_verdict_that_nobody_waits_for_leaves_nothing_after_the_handshake_timeout(world: World) -> None:
    application(world).answer = None
    verdict = world.greet("ann")
    if asyncio.iscoroutine(verdict):
        verdict.close()
    await world.pass_time(6)
    for waiting in application(world).waiting:
        waiting.cancel()
    await world.settle()
    assert not world.leftovers()


@lived(application=Application)
async def test_a_kick_refuses_an_upgrade_in_flight(world: World) -> None:
    bob = await held(world)
    answer = await in_flight(world, "ann")
    assert world.node.disconnect(world.store.ledger.records["ann"].user) == 1  # type: ignore[index]
    await world.settle()
    assert told(bob) == ["offline"]
    application(world).waiting[0].set_result(True)
    verdict = await answer
    assert isinstance(verdict, Refusal)
    await world.settle()
    assert world.shown("ann") == "offline" and told(bob) == []


@lived(application=Application)
async def test_the_cap_per_user_comes_before_the_application(world: World) -> None:
    for i in range(20):
        await world.connect("ann", tab=f"t{i}")
    asked_before = len(application(world).asked)
    assert (await world.refused("ann", tab="one more")).status == 429
    assert len(application(world).asked) == asked_before
