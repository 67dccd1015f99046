"""What nodes hear of each other: a kick reaches the connections that the store knew of, whatever the clocks say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from stillhere.core.events import Notice, NoticeKind
from stillhere.core.words import Cause, ConnectionId, UserId
from stillhere.server.neighbours import FIRST, dismiss, heed
from tests.unit.server.world import World, lived


def kick(world: World, user: str, clock: float) -> None:
    """Another node was asked to kick somebody; the store's clock differs from this node's by so many seconds."""
    seq = world.node.hub.cursors[0].seq
    at = world.clock.now() + clock
    heed(world.node, Notice(NoticeKind.DISMISSED, seq, at, "n2-0", UserId(user), ConnectionId(""), "kicked", "spam"))


async def _kicked(world: World, clock: float) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await world.pass_time(1)
    kick(world, "ann", clock)
    await world.settle()
    assert (ann.closed, bob.closed) == ((4004, "spam"), None)
    await world.pass_time(1)
    assert world.shown("ann") == "offline"


@lived()
async def test_a_kick_closes_what_the_store_knew_of(world: World) -> None:
    await _kicked(world, 0.0)


@lived()
async def test_a_kick_is_not_taken_for_an_older_one_by_a_node_whose_clock_is_ahead(world: World) -> None:
    await _kicked(world, -1200.0)


@lived()
async def test_a_kick_closes_nothing_that_was_opened_after_it_though_the_clock_is_behind(world: World) -> None:
    seq = world.node.hub.cursors[0].seq
    ann = await world.connect("ann")
    await world.pass_time(1)
    at = world.clock.now() + 1200.0
    heed(world.node, Notice(NoticeKind.DISMISSED, seq, at, "n2-0", UserId("ann"), ConnectionId(""), "kicked", "spam"))
    await world.settle()
    assert ann.closed is None


@lived()
async def test_the_store_has_a_kick_before_the_others_are_told_but_they_do_not_wait_for_it_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.store.share()
    waiting: list[Callable[[], None]] = []
    notices: list[str] = []
    acknowledged: list[str] = []

    async def notify(kind: NoticeKind, target: str, user: UserId, cause: str, reason: str) -> None:
        notices.append(user)

    def later(user: UserId, done: Callable[[], None]) -> None:
        waiting.append(done)

    monkeypatch.setattr(world.store, "notify", notify)
    monkeypatch.setattr(world.node.keeper, "when_acknowledged", later)
    kicks = [
        asyncio.create_task(dismiss(world.node, UserId(user), "spam", Cause.KICKED, lambda: acknowledged.append("it")))
        for user in ("ann", "bob")
    ]
    await world.settle()
    assert notices == []
    waiting[0]()
    await world.settle()
    assert notices == ["ann"] and acknowledged == ["it"]
    await world.pass_time(FIRST + 0.1)
    assert notices == ["ann", "bob"] and acknowledged == ["it"]
    await asyncio.gather(*kicks)
