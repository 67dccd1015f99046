"""A thousand people come, flap and leave at random while fifty watchers record: every recording obeys the promise, and
in the end every watcher holds what the server says.

``STILLHERE_CROWD_SECONDS`` makes it shorter for development.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any

import pytest

from tests.acceptance.crowd import ABORT, BYE, CLOSE, RELOAD, Person, Recorder, Span, disagreements, false_offlines
from tests.acceptance.server import TRANSPORTS, ServerProcess, Transport
from tests.acceptance.watching import Shown, faults, log_faults

PEOPLE, WATCHERS, WATCHED, ROOMS, JOINED = 1000, 50, 100, 40, 2
SECONDS = float(os.environ.get("STILLHERE_CROWD_SECONDS", "60"))
SEED = "a thousand people"

WINDOWS = {RELOAD: 1.0, CLOSE: 0.5, ABORT: 1.5}
SETTINGS: dict[str, object] = {
    **{f"grace.{how}": round(seconds * 1000) for how, seconds in WINDOWS.items()},
    "store.url": "sqlite:///crowd.db",
    "limits.connections_per_ip": 3 * PEOPLE,
}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_thousand_people_at_random_are_shown_truly_to_fifty_watchers(transport: Transport) -> None:
    """Over ASGI for a sixth of the time: what differs there is how a connection ends, not how many do."""
    seconds = SECONDS if transport == "native" else SECONDS / 6
    rng = random.Random(SEED)
    names = [f"p{n:04}" for n in range(PEOPLE)]
    rooms = [f"room {n}" for n in range(ROOMS)]
    with ServerProcess(SETTINGS, websocket=transport) as server:

        def token(name: str) -> str:
            return server.token(name, sid=f"s-{name}")

        url = server.ws_url
        people = [Person(n, url, token(n), rng.choice(rooms) if rng.random() < 0.3 else None, SEED) for n in names]
        watchers = [
            Recorder(f"w{n:02}", rng.sample(names, WATCHED), rng.sample(rooms, JOINED)) for n in range(WATCHERS)
        ]
        for watcher in watchers:
            await watcher.begin(url, token(watcher.name))
        until = time.monotonic() + seconds
        await asyncio.gather(*(person.live(until) for person in people))
        ended = time.time()
        try:
            await converged(server, watchers)
            assert [surprise for person in people for surprise in person.surprises] == []
            assert {watcher.end for watcher in watchers} == {None}
            judge(server, people, watchers, ended)
        finally:
            for watcher in watchers:
                await watcher.stop()
            await asyncio.gather(*(person.leave() for person in people))
        connects = sum(person.connects for person in people)
        assert connects > PEOPLE, "the crowd hardly moved"
        assert server.terminate() == 0
        assert log_faults(server.log()) == []
        assert [line for line in server.log() if line["level"] in ("error", "critical")] == []
        assert server.stderr == ""


def test_the_end_of_a_stay_of_two_milliseconds_is_not_taken_for_the_end_of_the_one_before() -> None:
    person = Person("ada", "", "", None, SEED)
    person.spans = [Span(0.0, 7.6798, RELOAD), Span(7.7093, 7.7111, BYE)]

    def judged(changed_at: int) -> int:
        told = {"user": "ada", "status": "offline", "version": 1, "changedAt": changed_at}
        return len(false_offlines(person, [Shown(0.0, "presence", told)], WINDOWS))

    assert judged(7_711) == 0, "she said goodbye then"
    assert judged(7_690) == 1, "she was back in time"
    assert judged(5_000) == 1, "she was there"


def judge(server: ServerProcess, people: list[Person], watchers: list[Recorder], ended: float) -> None:
    """Every history obeys the invariants, and is true."""
    persons = {person.name: person for person in people}
    histories = [watcher.histories() for watcher in watchers]
    changes = 0
    for history in histories:
        for user, entries in history.items():
            changes += len(entries)
            # the server folds under pressure: a state in between may be left out, but never two ends of one absence
            assert faults(entries, folded=True) == []
            assert false_offlines(persons[user], entries, WINDOWS) == []
            assert (entries[-1].status == "offline") is not persons[user].present, (entries[-1], ended)
    assert disagreements(histories) == []
    assert changes > 2 * WATCHERS * WATCHED, "the watchers hardly saw anything"
    for watcher in watchers:
        for view in watcher.views().values():
            assert view.faults == []


async def converged(server: ServerProcess, watchers: list[Recorder]) -> None:
    """Every watcher comes to hold what the server says, within the longest window, a sweep and some patience."""
    end = time.monotonic() + max(WINDOWS.values()) + 15
    while True:
        await asyncio.sleep(0.5)
        differences = await asyncio.to_thread(compare, server, watchers)
        if not differences:
            return
        assert time.monotonic() < end, differences[:5]


def compare(server: ServerProcess, watchers: list[Recorder]) -> list[str]:
    """Where what a watcher holds is not what the server says now."""
    found = [] if server.get("/v1/stats")[0] == 200 else ["no statistics"]
    users = sorted({user for watcher in watchers for user in watcher.users})
    status, answer = server.post("/v1/users/query", {"users": users})
    assert status == 200, answer
    truth = {told["user"]: essence(told) for told in answer["users"]}
    members = {room: inside(server, room) for room in sorted({room for w in watchers for room in w.rooms})}
    for watcher in watchers:
        for user, entries in watcher.histories().items():
            if essence(entries[-1].told) != truth[user]:
                found.append(f"{watcher.name}: {entries[-1].told}, the server: {truth[user]}")
        for room, view in watcher.views().items():
            mine = {user: essence(member) for user, member in view.members.items()}
            if mine != members[room]:
                found.append(f"{watcher.name}: {room} is {mine}, for the server {members[room]}")
    return found


def essence(told: dict[str, Any]) -> tuple[object, ...]:
    """What must be the same everywhere."""
    return tuple(told.get(name) for name in ("status", "version", "changedAt", "lastSeenAt", "joinedAt", "metas"))


def inside(server: ServerProcess, room: str) -> dict[str, tuple[object, ...]]:
    """The members of a room, as the server has them."""
    status, answer = server.get(f"/v1/rooms/{room.replace(' ', '%20')}")
    assert status == 200, answer
    return {member["user"]: essence(member) for member in answer["members"]}
