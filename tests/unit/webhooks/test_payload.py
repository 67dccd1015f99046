"""What is posted, to the letter."""

from __future__ import annotations

import json

from stillhere.core.events import Change, Transition
from stillhere.core.record import Shown, ShownMember
from stillhere.core.words import RoomName, Status, UserId
from stillhere.server.webhooks.payload import EVENTS, TYPES, gap_message, transition_message, trial_message
from stillhere.store.contract import Cursor

AT = 1_790_000_000.1234


def test_a_user_is_told_as_watchers_see_them() -> None:
    shown = Shown(Status.ONLINE, 42, AT, info={"name": "Ann"})
    message = transition_message(
        Transition(UserId("ann"), Change.ONLINE, 42, AT, "connection_open", shown, connections=3), 7, 0
    )
    assert (message.id, message.type) == ("msg_0-42-1790000000123", "presence.online")
    assert json.loads(message.body) == {
        "type": "presence.online",
        "timestamp": "2026-09-21T14:13:20.123Z",
        "data": {
            "user": "ann",
            "change": "PRESENCE_ONLINE",
            "version": 42,
            "epoch": "7",
            "at": 1790000000123,
            "cause": "connection_open",
            "cursor": "7-42",
            "presence": {
                "user": "ann",
                "status": "online",
                "epoch": "7",
                "version": 42,
                "changedAt": 1790000000123,
                "info": {"name": "Ann"},
            },
        },
    }


def test_a_change_in_a_room_tells_the_member() -> None:
    member = ShownMember(Status.AWAY, 43, AT, metas=[])  # type: ignore[arg-type]
    message = transition_message(
        Transition(UserId("ann"), Change.JOINED, 43, AT, "room", room=RoomName("lobby"), member=member), 7, 3
    )
    data = json.loads(message.body)["data"]
    assert (message.type, data["room"], data["member"]["status"], data["partition"]) == (
        "room.joined",
        "lobby",
        "away",
        3,
    )
    left = transition_message(Transition(UserId("ann"), Change.LEFT, 44, AT, "room", room=RoomName("lobby")), 7, 3)
    assert "member" not in json.loads(left.body)["data"]


def test_the_id_does_not_change_with_the_epoch_of_a_restart() -> None:
    entry = Transition(UserId("ann"), Change.OFFLINE, 42, AT, "bye")
    assert transition_message(entry, 7, 0).id == transition_message(entry, 8, 0).id
    assert transition_message(entry, 7, 0).id != transition_message(entry, 7, 1).id


def test_a_gap_says_where_it_goes_on() -> None:
    message = gap_message(Cursor(7, 99), 2, AT)
    assert message.type == "log.gap"
    assert json.loads(message.body)["data"] == {"cursor": "7-99", "partition": 2}


def test_every_test_is_another_message() -> None:
    assert trial_message("n1", AT).id != trial_message("n1", AT).id
    assert json.loads(trial_message("n1", AT).body)["data"] == {"node": "n1"}


def test_every_change_has_a_name_in_the_settings_and_a_type() -> None:
    assert set(EVENTS.values()) == set(TYPES) == set(Change)
