"""What an application asks its presence in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from stillhere.core.words import UserId
from stillhere.embed import NotRunning, Presence, StoreUnavailable
from stillhere.store.contract import Snapshot
from stillhere.store.memory import MemoryStore
from stillhere.testing import World, presence_world
from stillhere.testing.fixtures import presence_options, world

__all__ = ["presence_options", "world"]  # fixtures

SECRET = "a secret for tests, and for nothing else"


class Unreachable(MemoryStore):
    """A store that other nodes may reach, and this one does not."""

    async def snapshot(self, users: Sequence[UserId]) -> Snapshot:
        raise StoreUnavailable("the cable is cut")


async def test_the_status_is_what_watchers_are_shown(world: World) -> None:
    alice = await world.connect("alice")
    await alice.be("busy")
    assert await world.presence.status("alice") == "busy"
    assert await world.presence.statuses(["alice", "bob"]) == {"alice": "busy", "bob": "offline"}
    alice.leave_page()
    await world.advance(1)
    assert await world.presence.status("alice") == "busy"
    await world.advance(9)
    assert await world.presence.status("alice") == "offline"


async def test_an_id_that_cannot_be_one_is_a_value_error(world: World) -> None:
    for wrong in ("", "a\nb", "x" * 300):
        with pytest.raises(ValueError, match="the user id"):
            await world.presence.status(wrong)
        with pytest.raises(ValueError, match="the user id"):
            await world.presence.disconnect(wrong)
        with pytest.raises(ValueError, match="the room name"):
            await world.presence.room(wrong)


async def test_without_the_store_whoever_is_here_is_online_and_of_others_nobody_can_tell(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.connect("alice")
    monkeypatch.setattr(world.presence.node.store, "snapshot", Unreachable(world.clock.now).snapshot)
    assert await world.presence.statuses(["alice", "bob"]) == {"alice": "online", "bob": "unknown"}


async def test_a_room_has_its_members_in_the_order_of_their_arrival(world: World) -> None:
    zoe = await world.connect("zoe", info={"name": "Zoe"})
    await zoe.join("kitchen", seat=1)
    await world.advance(1)
    await world.connect("alice", rooms=["kitchen"])
    room = await world.presence.room("kitchen")
    assert [member.user for member in room.members] == ["zoe", "alice"]
    first = room.members[0]
    assert (first.status, first.info, first.metas) == ("online", {"name": "Zoe"}, ({"seat": 1},))
    assert first.joined_at == pytest.approx(world.clock.now() - 1, abs=0.1)
    assert room.complete
    assert (await world.presence.room("nowhere")).members == ()


async def test_diagnostics_are_those_of_the_http_api(world: World) -> None:
    alice = await world.connect("alice")
    found = await world.presence.diagnostics("alice")
    assert found.online and found.active_connection_count == 1 and found.grace is None
    alice.leave_page()
    await world.advance(1)
    found = await world.presence.diagnostics("alice")
    assert found.online and found.active_connection_count == 0 and found.grace is not None
    assert found.grace.cause == "going_away"


async def test_a_disconnect_closes_every_connection_and_ends_windows(world: World) -> None:
    first, second = await world.connect("alice"), await world.connect("alice")
    bob = await world.connect("bob", watches=["alice"])
    assert await world.presence.disconnect("alice", "é" * 100) == 2
    await world.settle()
    assert first.closed == second.closed == (4004, "é" * 61)
    assert bob.saw == [("alice", "offline")]
    assert await world.presence.disconnect("alice") == 0


async def test_asked_before_the_start_or_after_the_stop_it_says_so() -> None:
    presence = Presence(store="memory:", secret=SECRET)
    for _ in range(2):
        with pytest.raises(NotRunning, match=r"presence\.lifespan"):
            await presence.status("alice")
        with pytest.raises(NotRunning):
            await anext(presence.transitions())
        async with presence.lifespan():
            assert await presence.status("alice") == "offline"


async def test_it_may_be_started_again_and_remembers_what_its_store_does(tmp_path: Path) -> None:
    presence = Presence(store=f"sqlite:///{tmp_path}/presence.db", secret=SECRET)
    nodes = []
    for _ in range(3):
        async with presence.lifespan():
            nodes.append(presence.node)
            assert presence.running and presence.node.ready is None
    assert len(set(nodes)) == 3 and not presence.running


async def test_a_second_start_and_a_second_stop_do_nothing() -> None:
    presence = Presence(store="memory:", secret=SECRET)
    await asyncio.gather(presence.start(), presence.start())
    node = presence.node
    await presence.start()
    assert presence.node is node
    await presence.stop()
    await presence.stop()


def test_it_runs_on_one_event_loop_at_a_time_and_may_change_it_between_two_runs() -> None:
    presence = Presence(store="memory:", secret=SECRET)

    async def run() -> str:
        async with presence.lifespan():
            return await presence.status("alice")

    assert asyncio.run(run()) == asyncio.run(run()) == "offline"


async def test_a_drain_moves_everybody_away() -> None:
    async with presence_world(settings={"server.drain_s": 2}) as world:
        alice = await world.connect("alice")
        draining = asyncio.ensure_future(world.presence.drain())
        await world.advance(12)
        await draining
        assert alice.closed is not None and alice.closed[0] == 1012
        assert alice.messages[-1]["type"] == "moving"
