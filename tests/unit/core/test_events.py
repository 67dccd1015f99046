"""What the ledger reports."""

from __future__ import annotations

import msgspec

from stillhere.core.events import Change, Event, Transition
from stillhere.core.words import Status
from tests.unit.core.world import ALICE, World


def test_every_event_survives_storage() -> None:
    world = World()
    c = world.connect(info={"name": "A"})
    world.join(c, "r", {"seat": 1})
    world.end(c)
    c = world.connect()
    world.end(c)
    world.advance(10)
    assert len({type(e) for e in world.events}) == 5
    wire = msgspec.msgpack.encode(world.events)
    assert msgspec.msgpack.decode(wire, type=list[Event]) == world.events


def test_the_names_of_changes_are_those_of_the_log() -> None:
    assert [change.value for change in Change] == [
        "PRESENCE_ONLINE",
        "PRESENCE_OFFLINE",
        "PRESENCE_UPDATED",
        "ROOM_JOINED",
        "ROOM_LEFT",
        "ROOM_UPDATED",
    ]


def test_a_transition_bears_the_state_and_its_place_in_the_log() -> None:
    world = World()
    world.connect()
    (event,) = world.events
    assert isinstance(event, Transition)
    assert (event.user, event.version, event.room, event.member) == (ALICE, 1, None, None)
    assert event.shown is not None and event.shown.status is Status.ONLINE
