"""Every transition, told to the application: as a stream that can be resumed, and to callbacks that harm nobody."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from stillhere.embed import Change, Gap, Presence, Transition
from stillhere.store.contract import StoreUnavailable
from stillhere.store.memory import MemoryStore
from stillhere.testing import World, presence_world
from stillhere.testing.fixtures import presence_options, world
from tests.unit.embed.test_authenticate import failures

__all__ = ["presence_options", "world"]  # fixtures

SECRET = "a secret for tests, and for nothing else"


class Reader:
    """Reads a stream beside the test."""

    def __init__(self, world: World, stream: AsyncIterator[Transition | Gap]) -> None:
        self.told: list[Transition | Gap] = []
        self.ended = False
        world.spawn(self._read(stream))

    async def _read(self, stream: AsyncIterator[Transition | Gap]) -> None:
        async for told in stream:
            self.told.append(told)
        self.ended = True

    @property
    def seen(self) -> list[tuple[str, str, str]]:
        return [(one.user, one.status, one.cause) for one in self.told if isinstance(one, Transition)]


async def come_and_go(world: World, *users: str) -> None:
    for user in users:
        (await world.connect(user)).log_out()
        await world.settle()


async def test_the_stream_tells_every_transition_with_its_cause(world: World) -> None:
    reader = Reader(world, world.presence.transitions())
    await world.settle()
    alice = await world.connect("alice", info={"name": "A"}, rooms=["kitchen"])
    await alice.be("away", mood="tired")
    alice.leave_page()
    await world.advance(10)
    assert reader.seen == [
        ("alice", "online", "connection_open"),
        ("alice", "online", "state"),  # of the room
        ("alice", "away", "state"),
        ("alice", "away", "state"),  # of the room
        ("alice", "offline", "going_away"),
        ("alice", "offline", "going_away"),  # of the room
    ]
    assert [one.room for one in reader.told if isinstance(one, Transition)] == [None, "kitchen"] * 3
    joined = next(one for one in reader.told if isinstance(one, Transition) and one.change is Change.JOINED)
    assert (joined.room, joined.info) == ("kitchen", {"name": "A"})
    tired = next(one for one in reader.told if isinstance(one, Transition) and one.meta)
    assert (tired.meta, tired.room) == ({"mood": "tired"}, None)


async def test_a_reload_is_no_transition(world: World) -> None:
    alice = await world.connect("alice")
    reader = Reader(world, world.presence.transitions())
    await world.settle()
    alice.reload()
    await world.advance(20)
    assert reader.told == []


async def test_a_cursor_resumes_after_the_last_one_that_was_dealt_with(world: World) -> None:
    first = Reader(world, world.presence.transitions())
    await world.settle()
    await come_and_go(world, "alice", "bob")
    assert len(first.told) == 4
    again = Reader(world, world.presence.transitions(after=first.told[1].cursor))
    await world.settle()
    assert again.told == first.told[2:]


async def test_a_cursor_resumes_in_the_next_run_of_the_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/presence.db"
    told: list[Transition | Gap] = []
    async with presence_world(store=url) as world:
        reader = Reader(world, world.presence.transitions())
        await _real(world, lambda: None)
        await come_and_go(world, "alice", "bob")
        await _real(world, lambda: len(reader.told) >= 4 or None)
        told = reader.told
    async with presence_world(store=url) as world:
        again = Reader(world, world.presence.transitions(after=told[1].cursor))
        await _real(world, lambda: len(again.told) >= 2 or None)
        assert [place(one) for one in again.told] == [place(one) for one in told[2:]]


def place(told: Transition | Gap) -> tuple[str, str, int]:
    """What stays the same over a restart, which begins a new epoch."""
    assert isinstance(told, Transition)
    return told.user, told.status, told.version


async def _real(world: World, done: Callable[[], object]) -> None:
    """Let the writer thread of a file do its work: that is real, and takes real time."""
    for _ in range(400):
        await asyncio.to_thread(lambda: None)
        await world.settle()
        if done():
            return


async def test_a_log_that_does_not_reach_back_is_a_gap_and_goes_on(world: World) -> None:
    store = world.presence.node.store
    assert isinstance(store, MemoryStore)
    old = str(await store.tip())
    store._log = deque(store._log, maxlen=2)
    await come_and_go(world, "alice", "bob", "carol")
    reader = Reader(world, world.presence.transitions(after=old))
    await world.settle()
    assert isinstance(reader.told[0], Gap)
    await come_and_go(world, "dave")
    assert reader.seen == [("dave", "online", "connection_open"), ("dave", "offline", "bye")]


@pytest.mark.parametrize("wrong", ["", "x", "1", "1-2.3-4", "1-2-3"])
async def test_a_cursor_that_is_none_is_a_value_error(world: World, wrong: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await anext(world.presence.transitions(after=wrong))


async def test_the_stream_ends_when_the_presence_stops() -> None:
    presence = Presence(store="memory:", secret=SECRET)
    ended = []

    async def read() -> None:
        async for _ in presence.transitions():
            pass
        ended.append(True)

    async with presence.lifespan():
        reading = asyncio.ensure_future(read())
        await asyncio.sleep(0)
    await asyncio.wait_for(reading, 5)
    assert ended == [True]


async def test_an_outage_of_the_store_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(world, world.presence.transitions())
    await world.settle()
    store = world.presence.node.store

    async def cut(*arguments: Any, **more: Any) -> Any:
        raise StoreUnavailable("the cable is cut")

    with monkeypatch.context() as patch:
        patch.setattr(store, "read_log", cut)
        await come_and_go(world, "alice")
        await world.advance(3)
        assert reader.told == []
    await world.advance(3)
    assert [status for _, status, _ in reader.seen] == ["online", "offline"]


async def test_callbacks_are_told_in_order_whether_sync_or_async() -> None:
    told: dict[str, list[str]] = {"sync": [], "async": []}

    def make(**options: Any) -> Presence:
        presence = Presence(**options)

        @presence.on_transition
        def plain(transition: Transition) -> None:
            told["sync"].append(transition.status)

        @presence.on_transition
        async def later(transition: Transition) -> None:
            await asyncio.sleep(0)
            told["async"].append(transition.status)

        assert plain.__name__ == "plain"
        return presence

    async with presence_world(make) as world:
        await come_and_go(world, "alice", "bob")
    assert told == {"sync": ["online", "offline"] * 2, "async": ["online", "offline"] * 2}


async def test_a_callback_that_raises_is_logged_and_counted_and_told_the_next_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Transition] = []

    @world.presence.on_transition
    def broken(transition: Transition) -> None:
        told.append(transition)
        raise RuntimeError("the application's own affair")

    await world.settle()
    with caplog.at_level(logging.ERROR, "stillhere.embed"):
        await come_and_go(world, "alice")
    assert len(told) == 2
    assert failures(world, "on_transition", "raised") == len(caplog.records) == 2


async def test_a_callback_that_hangs_holds_up_nobody_else(world: World) -> None:
    told: list[str] = []

    @world.presence.on_transition
    async def hanging(transition: Transition) -> None:
        await asyncio.Event().wait()

    @world.presence.on_transition
    async def other(transition: Transition) -> None:
        told.append(transition.user)

    bob = await world.connect("bob", watches=["alice"])
    await come_and_go(world, "alice")
    assert told == ["bob", "alice", "alice"] and [one.status for one in bob.saw] == ["online", "offline"]


async def test_a_callback_that_was_too_slow_is_told_of_the_gap(world: World) -> None:
    store = world.presence.node.store
    assert isinstance(store, MemoryStore)
    store._log = deque(store._log, maxlen=2)
    gate, told = asyncio.Event(), list[Transition | Gap]()

    async def slow(transition: Transition) -> None:
        told.append(transition)
        await gate.wait()

    world.presence.on_transition(slow, on_gap=told.append)
    await world.settle()
    await come_and_go(world, "alice", "bob", "carol")
    gate.set()
    await world.settle()
    assert isinstance(told[0], Transition) and any(isinstance(one, Gap) for one in told)


async def test_who_does_not_want_to_be_told_any_more_is_not(world: World) -> None:
    told: list[Transition] = []
    world.presence.on_transition(told.append)
    await world.settle()
    await come_and_go(world, "alice")
    world.presence.off_transition(told.append)
    await come_and_go(world, "bob")
    assert [one.user for one in told] == ["alice", "alice"]
