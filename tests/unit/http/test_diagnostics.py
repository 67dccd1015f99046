"""Diagnostics: right at every moment, and reading them changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from stillhere.core.record import ConnectionSummary, Share
from stillhere.core.words import Availability, ConnectionId, Incarnation, ReadyState, SessionId, TabId, UserId
from stillhere.http.diagnostics import diagnose
from stillhere.server.node import Node
from stillhere.server.socket import Refusal, UpgradeRequest
from tests.unit.http.stand import START, Stand, standing

AT = round(START * 1000)


async def diagnostics(stand: Stand, user: str = "alice") -> dict[str, Any]:
    found: dict[str, Any] = await stand.get(f"/v1/users/{user}/diagnostics")
    assert found["online"] is (found["activeConnectionCount"] > 0 or found["grace"] is not None)
    active = [c for c in found["connections"] if c["readyState"] != "CONNECTING"]
    assert found["connectionKeys"] == [c["connectionKey"] for c in active]
    assert found["activeConnectionCount"] == len(active)
    return found


async def test_everything_is_told_of_an_open_connection(stand: Stand) -> None:
    wire = await stand.connect("alice", "tab-1")
    found = await diagnostics(stand)
    key = f"ali…:s_a…:{AT}:{wire.id[:8]}…"
    assert found == {
        "user": "alice",
        "online": True,
        "status": "online",
        "activeConnectionCount": 1,
        "connectionKeys": [key],
        "connections": [
            {
                "connectionKey": key,
                "readyState": "OPEN",
                "openedAt": AT,
                "lastHeardAt": AT,
                "node": "n1",
                "tab": "tab-1",
                "client": "Chrome 156",
                "availability": "active",
            }
        ],
        "grace": None,
        "epoch": stand.node.hub.epoch,
        "version": 1,
        "lastTransition": {"type": "PRESENCE_ONLINE", "at": AT, "cause": "connection_open"},
        "complete": True,
    }


async def test_no_id_is_shown_whole(stand: Stand) -> None:
    wire = await stand.connect("somebody-with-a-long-name")
    (key,) = (await diagnostics(stand, "somebody-with-a-long-name"))["connectionKeys"]
    assert wire.id not in key and "somebody" not in key


async def test_of_an_unknown_user_the_counts_are_zero(stand: Stand) -> None:
    found = await diagnostics(stand, "nobody")
    assert (found["online"], found["status"], found["version"]) == (False, "offline", 0)
    assert (found["connections"], found["grace"], found["lastTransition"]) == ([], None, None)


async def test_a_closing_connection_counts_and_says_so(stand: Stand) -> None:
    wire = await stand.connect("alice")
    wire.endpoint.on_close_frame(1001, "")
    for _ in range(2):
        found = await diagnostics(stand)
        assert (found["online"], found["activeConnectionCount"], found["grace"]) == (True, 1, None)
        assert (found["connections"][0]["readyState"], found["connections"][0]["cause"]) == ("CLOSING", "going_away")
        await stand.settle()


async def test_a_window_is_told_with_its_cause_and_deadline(stand: Stand) -> None:
    wire = await stand.connect("alice")
    await stand.wait(2)
    wire.leave(1001)
    window = {"cause": "going_away", "startedAt": AT + 2000, "windowMs": 8000, "deadline": AT + 10_000}
    # before the store has heard of it, when it has, and when time has passed: the deadline does not move
    for seconds in (0, 1, 3):
        found = await diagnostics(stand)
        assert (found["online"], found["status"], found["activeConnectionCount"]) == (True, "online", 0)
        assert found["grace"] == window
        await stand.wait(seconds)
    await stand.wait(8)
    found = await diagnostics(stand)
    assert (found["online"], found["status"], found["grace"]) == (False, "offline", None)
    assert found["lastTransition"] == {"type": "PRESENCE_OFFLINE", "at": AT + 10_000, "cause": "going_away"}


async def test_a_connection_of_which_the_store_has_not_heard_counts(stand: Stand) -> None:
    await stand.connect("alice", settle=False)
    found = await diagnostics(stand)
    assert (found["online"], found["activeConnectionCount"], found["status"]) == (True, 1, "online")


async def test_a_return_of_which_the_store_has_not_heard_ends_the_window(stand: Stand) -> None:
    (await stand.connect("alice")).leave(1001)
    await stand.settle()
    await stand.connect("alice", settle=False)
    found = await diagnostics(stand)
    assert (found["activeConnectionCount"], found["grace"]) == (1, None)


async def test_a_departure_of_which_the_store_has_not_heard_is_offline(stand: Stand) -> None:
    wire = await stand.connect("alice")
    wire.say(type="bye")
    found = await diagnostics(stand)
    assert (found["online"], found["status"], found["grace"]) == (False, "offline", None)


async def test_an_upgrade_in_flight_is_listed_and_does_not_count() -> None:
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    async with standing(admit=lambda identity, request: answer) as stand:
        headers = {"host": "localhost", "authorization": f"Bearer {stand.token('alice')}"}
        verdict = stand.node.greet(UpgradeRequest("/ws", {}, headers, "127.0.0.1"))
        assert isinstance(verdict, Awaitable)
        found = await diagnostics(stand)
        assert (found["online"], [c["readyState"] for c in found["connections"]]) == (False, ["CONNECTING"])
        answer.set_result(False)
        assert isinstance(await verdict, Refusal)
        assert (await diagnostics(stand))["connections"] == []


async def test_connections_of_other_nodes_are_told_as_the_store_has_them(stand: Stand) -> None:
    await stand.connect("alice", "t1")
    other = ConnectionSummary(
        ConnectionId("c_other"),
        SessionId("s_1"),
        TabId("t9"),
        ReadyState.OPEN,
        START - 5,
        Availability.BUSY,
        client="App 2",
    )
    stand.store.ledger.records[next(iter(stand.store.ledger.records))].shares[Incarnation("n-2-0123456789abcdef")] = (
        Share(1, (other,))
    )
    first, second = (await diagnostics(stand))["connections"]
    assert (first["node"], first["tab"], first["lastHeardAt"], first["availability"]) == ("n-2", "t9", None, "busy")
    assert (second["node"], second["tab"], second["lastHeardAt"]) == ("n1", "t1", AT)


async def test_an_invisible_user_is_online_to_the_operator_and_shown_offline(stand: Stand) -> None:
    await stand.connect("alice", availability="invisible")
    found = await diagnostics(stand)
    assert (found["online"], found["status"], found["activeConnectionCount"]) == (True, "offline", 1)
    assert found["connections"][0]["availability"] == "invisible"


async def test_the_last_transition_is_the_users_own_and_not_a_rooms(stand: Stand) -> None:
    wire = await stand.connect("alice")
    wire.say(type="state", id=1, availability="away")
    await stand.settle()
    wire.say(type="join", id=2, room="lobby")
    await stand.settle()
    assert (await diagnostics(stand))["lastTransition"] == {"type": "PRESENCE_UPDATED", "at": AT, "cause": "state"}


@pytest.mark.parametrize("moment", ["open", "closing", "not told", "window", "offline"])
async def test_reading_a_thousand_times_changes_nothing(moment: str) -> None:
    """At whatever moment: no record, no revision, no line, no frame, no later answer."""
    async with standing() as stand:
        watcher = await stand.connect("bob")
        watcher.say(type="watch", id=1, users=["alice", "nobody"])
        wire = await stand.connect("alice")
        wire.say(type="join", id=1, room="lobby")
        await stand.settle()
        if moment == "closing":
            wire.endpoint.on_close_frame(1001, "")
            await stand.settle()
        elif moment == "window":
            wire.leave(1001)
            await stand.settle()
        elif moment == "offline":
            wire.leave(1001)
            await stand.wait(10)
        calls = ["/v1/users/alice", "/v1/users/alice/diagnostics", "/v1/users/nobody/diagnostics", "/v1/rooms/lobby"]
        headers = {"Authorization": f"Bearer {stand.token(scope='read')}"}
        if moment == "not told":
            wire.leave(1001)
        before, first = everything(stand), [(await stand.client.get(c, headers=headers)).content for c in calls]
        if moment == "not told":  # the loop has turned meanwhile, and the store has been told: not by the readers
            await stand.settle()
            before, first = everything(stand), [(await stand.client.get(c, headers=headers)).content for c in calls]
        for _ in range(1000 // len(calls)):
            assert [(await stand.client.get(c, headers=headers)).content for c in calls] == first
        assert everything(stand) == before


async def test_a_read_between_two_changes_of_one_turn_does_not_tell_the_store_of_the_first(stand: Stand) -> None:
    """A reload within one turn of the loop is one change, read or not read."""
    wire = await stand.connect("alice")
    image, lines = stand.image(), len(stand.lines)
    wire.leave(1001)
    for _ in range(1000):
        found = await diagnose(stand.node, UserId("alice"))  # awaits nothing that lets the loop turn
        assert found.online and found.grace is not None
    assert stand.image() == image and stand.node.roster.changed
    await stand.connect("alice")
    assert [line for line in stand.lines[lines:] if line.startswith(("PRESENCE", "grace"))] == []


def everything(stand: Stand) -> tuple[Any, ...]:
    """All that could have been changed."""
    node: Node = stand.node
    roster = [(c.id, c.ready, c.cause, c.availability) for c in node.roster.connections.values()]
    topics = sorted(node.hub.users), sorted(node.hub.rooms)
    frames = [len(wire.frames) for wire in stand.wires]
    return stand.image(), list(stand.lines), frames, roster, topics, node.roster.changed, node.roster._revision
