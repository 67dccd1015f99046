"""Invisible is offline: in every field, in rooms, in queries, in the number of frames and in their bytes."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest

from tests.unit.server.world import Client, World, live, lived


async def goes_invisible(world: World, ann: Client) -> None:
    ann.say("state", availability="invisible")


async def says_bye(world: World, ann: Client) -> None:
    ann.say("bye")


async def goes_on_unseen(world: World, ann: Client) -> None:
    """What an invisible user does afterwards."""
    await ann.ask("state", meta={"secret": 1})
    await ann.ask("join", room="attic", meta={"secret": 2})
    other = await world.connect("ann", tab="another", info={"name": "Ann the Unseen"})
    await other.ask("join", room="lobby")
    other.leave(1001)
    await world.pass_time(10)
    ann.say("ping")
    await ann.ask("leave", room="lobby")


async def does_nothing(world: World, ann: Client) -> None:
    await world.pass_time(10)


Act = Callable[[World, Client], Awaitable[None]]


def history(vanish: Act, after: Act) -> list[bytes]:
    """All that two watchers are sent while Ann vanishes and does something afterwards."""
    frames: list[bytes] = []

    async def script(world: World) -> None:
        bob = await world.connect("bob", tab="b")
        await bob.ask("watch", users=["ann"])
        await bob.ask("join", room="lobby")
        await bob.ask("join", room="attic")
        ann = await world.connect("ann", tab="a", sid="s", info={"name": "Ann"})
        await ann.ask("join", room="lobby", meta={"seat": 1})
        await world.pass_time(5)
        await vanish(world, ann)
        await world.settle()
        await after(world, ann)
        late = await world.connect("late", tab="l")
        for client in (bob, late):
            await client.ask("query", id=1, users=["ann", "nobody"])
            await client.ask("watch", id=2, users=["ann"])
            await client.ask("join", id=3, room="lobby")
            await client.ask("join", id=4, room="attic")
        await world.pass_time(1)
        epoch = str(world.store.ledger.state.epoch).encode()
        for client in (bob, late):
            for frame in client.raw:
                frame = re.sub(rb"\b[cs]_[-\w]+", b"ID", frame.replace(epoch, b"EPOCH"))
                frames.append(frame)

    live(script)
    return frames


def test_an_invisible_user_cannot_be_told_from_one_who_left_by_any_byte() -> None:
    unseen = history(goes_invisible, goes_on_unseen)
    assert unseen == history(says_bye, does_nothing)
    assert b"offline" in b"".join(unseen) and b"Unseen" not in b"".join(unseen)


def test_the_comparison_would_notice_a_difference() -> None:
    async def stays(world: World, ann: Client) -> None:
        ann.say("state", availability="away")

    assert history(goes_invisible, does_nothing) != history(stays, does_nothing)


@lived()
async def test_becoming_visible_again_is_coming_online(world: World) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await ann.ask("join", room="r")
    await bob.ask("join", room="r")
    await bob.ask("watch", users=["ann"])
    await ann.ask("state", availability="invisible")
    bob.take()
    await world.pass_time(60)
    await ann.ask("state", availability="active")
    presence, room = sorted(bob.take(), key=lambda frame: str(frame["type"]))
    assert [change["status"] for change in presence["changes"]] == ["online"]
    assert [member["user"] for member in room["joins"]] == ["ann"]
    assert room["joins"][0]["joinedAt"] == round(world.clock.now() * 1000)


@pytest.mark.parametrize("ending", ["leave", "drop", "bye"])
@lived()
async def test_the_end_of_an_invisible_user_is_not_told(world: World, ending: str) -> None:
    ann, bob = await world.connect("ann"), await world.connect("bob")
    await bob.ask("watch", users=["ann"])
    await world.pass_time(3)
    invisible_at = round(world.clock.now() * 1000)
    await ann.ask("state", availability="invisible")
    bob.take()
    await world.pass_time(30)
    if ending == "bye":
        ann.say("bye")
    else:
        getattr(ann, ending)()
    await world.pass_time(60)
    assert bob.take() == []
    (answer,) = await bob.ask("query", users=["ann"])
    assert answer["users"][0]["lastSeenAt"] == invisible_at == answer["users"][0]["changedAt"]


@lived()
async def test_one_invisible_tab_hides_the_user_as_a_whole(world: World) -> None:
    one, two = await world.connect("ann"), await world.connect("ann")
    await one.ask("state", availability="busy")
    await two.ask("state", availability="invisible")
    assert world.shown("ann") == "offline"
    await one.ask("state", availability="active")
    assert world.shown("ann") == "offline"
    await two.ask("bye")
    assert world.shown("ann") == "online"
