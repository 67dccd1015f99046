"""While the store is out of reach nobody is let in who could not be welcomed (rule R9)."""

from __future__ import annotations

import asyncio
import inspect

from stillhere.server.auth import Identity
from stillhere.server.node import Admit
from stillhere.server.socket import Refusal, UpgradeRequest, Welcome
from tests.unit.server.test_gate import problem
from tests.unit.server.world import World, lived

BEAT = 5.0


async def out_of_reach(world: World, seconds: float = BEAT + 1.0) -> None:
    """A store that other nodes use too does not answer for so long."""
    world.store.share()
    await world.pass_time(2)
    world.store.failing = True
    await world.pass_time(seconds + 1.0)  # the keeper asks once a second


@lived()
async def test_an_upgrade_is_refused_with_503_and_a_time_to_come_again(world: World) -> None:
    await out_of_reach(world)
    refusal = await world.refused("ann")
    assert refusal.status == 503 and int(refusal.headers["Retry-After"]) > 0
    assert "cannot reach its store" in problem(refusal)["detail"]
    assert world.metric("stillhere_refused_upgrades_total", why="store") == 1
    assert not world.leftovers()
    world.store.failing = False
    await world.pass_time(2)
    ann = await world.connect("ann")
    assert ann.of("welcome")


@lived()
async def test_a_short_hiccup_refuses_nobody(world: World) -> None:
    await out_of_reach(world, 0.6 * BEAT)
    ann = await world.connect("ann")
    assert ann.frames == []
    world.store.failing = False
    await world.pass_time(2)
    assert ann.of("welcome"), "whoever was let in is welcomed when the store is back"


@lived()
async def test_who_was_let_in_before_waits_for_the_welcome(world: World) -> None:
    await out_of_reach(world, 1)
    ann = await world.connect("ann")
    await world.pass_time(60)
    assert ann.code() is None and (await world.refused("bob")).status == 503
    world.store.failing = False
    await world.pass_time(2)
    assert ann.of("welcome")


@lived()
async def test_a_first_message_that_authenticates_is_answered_with_unavailable_and_1013(world: World) -> None:
    nobody = await world.connect(None)
    world.store.share()
    world.store.failing = True
    world.node.keeper.failing_since = world.clock.elapsed - BEAT
    nobody.say("auth", token=world.token("ann"), id=1)
    await world.settle()
    (error,) = nobody.of("error")
    assert (error["code"], error["id"], nobody.code()) == ("unavailable", 1, 1013)
    assert world.node.roster.connections == {}


@lived()
async def test_a_store_in_this_process_lets_people_in_although_it_cannot_write(world: World) -> None:
    """It applies what it is told: with a refusal a window would run out of somebody who is back."""
    ann = await world.connect("ann", tab="t")
    world.store.failing = True
    await world.pass_time(30)
    ann.leave(1001)
    await world.pass_time(1)
    await world.connect("ann", tab="t")
    await world.pass_time(60)
    world.store.failing = False
    await world.pass_time(5)
    assert world.shown("ann") == "online" and "PRESENCE_OFFLINE" not in world.events()


def slowly() -> Admit:
    """An application that thinks for three seconds."""

    async def decide(identity: Identity, request: UpgradeRequest) -> bool:
        await asyncio.sleep(3)
        return True

    return decide


@lived(application=slowly)
async def test_an_upgrade_in_flight_is_judged_by_how_the_store_is_at_its_end(world: World) -> None:
    world.store.share()
    await world.pass_time(2)
    verdict = world.greet("ann")
    assert inspect.isawaitable(verdict)
    world.store.failing = True
    world.node.keeper.failing_since = world.clock.elapsed - BEAT
    refusal = await verdict
    assert isinstance(refusal, Refusal) and refusal.status == 503
    assert world.node.roster.connections == {}


@lived(application=slowly)
async def test_an_upgrade_in_flight_outlives_a_hiccup(world: World) -> None:
    world.store.share()
    await world.pass_time(2)
    verdict = world.greet("ann")
    assert inspect.isawaitable(verdict)
    world.store.failing = True
    await world.pass_time(1)
    world.store.failing = False
    assert isinstance(await verdict, Welcome)
