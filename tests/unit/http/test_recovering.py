"""While a shared store is being told who is there, nobody is called offline for not being there yet."""

from __future__ import annotations

import pytest

from stillhere.core.words import UserId
from stillhere.http.diagnostics import diagnose
from stillhere.http.users import look_up
from tests.unit.server.world import World, lived


def recovering(world: World) -> None:
    """The store says from now on that it is being told who is there."""
    pytest.MonkeyPatch().setattr(world.store, "recovering", lambda user: True)


@lived()
async def test_who_is_not_there_is_unknown_and_who_is_here_is_online(world: World) -> None:
    await world.connect("ann")
    recovering(world)
    world.store.ledger.records.pop(UserId("ann"))
    found, complete = await look_up(world.node, [UserId("ann"), UserId("bob")])
    assert [(p.user, p.status) for p in found] == [("ann", "online"), ("bob", "unknown")]
    assert not complete
    told = await diagnose(world.node, UserId("bob"))
    assert (told.status, told.complete) == ("unknown", False)
    told = await diagnose(world.node, UserId("ann"))
    assert (told.online, told.active_connection_count, told.complete) == (True, 1, False)
    world.store.ledger.holders.clear()


@lived()
async def test_who_is_known_to_be_there_is_shown(world: World) -> None:
    await world.connect("ann")
    recovering(world)
    found, complete = await look_up(world.node, [UserId("ann")])
    assert [(p.user, p.status) for p in found] == [("ann", "online")] and complete
