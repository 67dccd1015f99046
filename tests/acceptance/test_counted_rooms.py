"""A room that grows beyond the number and shrinks again, on a real server, as the Python client and the API see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from stillhere.client import Api, AsyncApi, Client, Room, connect
from tests.acceptance.raw import Raw
from tests.acceptance.server import ServerProcess
from tests.acceptance.watching import enter

MOST, WAIT = 10, 20.0
ROOM = "stadium"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess({"rooms.count_only_above": MOST}) as running:
        yield running


async def until(me: Client, true: Callable[[], bool]) -> None:
    await me.until(true, WAIT)


def people(room: Room) -> set[str]:
    return {member.user for member in room.members}


async def test_a_room_is_told_by_its_count_while_it_is_large_and_by_names_before_and_after(
    server: ServerProcess,
) -> None:
    def client(user: str) -> Client:
        return connect(server.url, get_token=lambda renew: server.token(user), proxy=None)

    fans = [f"fan{n:02}" for n in range(15)]
    changes: list[tuple[str, str]] = []

    async def listen(room: Room) -> None:
        async for change in room:
            changes.append((change.kind, change.user))  # noqa: PERF401 - looked at while it grows

    async with (
        client("ann") as ann,
        ann.join(ROOM) as room,
        AsyncExitStack() as crowd,
        AsyncApi(server.url, api_key=server.api_key, trust_env=False) as api,
    ):
        listening = asyncio.create_task(listen(room))
        rooms: dict[str, Room] = {}
        for fan in fans[: MOST - 1]:
            rooms[fan] = await crowd.enter_async_context((await crowd.enter_async_context(client(fan))).join(ROOM))
        named = {"ann", *fans[: MOST - 1]}
        await until(ann, lambda: people(room) == named)
        assert (room.counted, room.count) == (False, MOST)

        for fan in fans[MOST - 1 :]:
            rooms[fan] = await crowd.enter_async_context((await crowd.enter_async_context(client(fan))).join(ROOM))
            assert rooms[fan].counted and not rooms[fan].stale, "who comes is told the count"
        await until(ann, lambda: room.count == 1 + len(fans))
        assert (room.counted, room.members, room.stale) == (True, (), False)
        assert ann.room(ROOM).statuses == {"online": 1 + len(fans)}
        found = await api.room(ROOM)
        assert (found.count, found.members, found.statuses) == (16, None, {"online": 16})
        assert [one.user async for one in api.members(ROOM, page=7)] == ["ann", *fans]

        for fan in fans[4:]:
            rooms[fan].leave()
        await until(ann, lambda: people(room) == {"ann", *fans[:4]})
        assert (room.counted, room.count) == (False, 5)
        await until(ann, lambda: people(rooms["fan00"]) == people(room))
        async with client("bob") as bob, bob.join(ROOM) as late:
            assert people(late) == {"ann", "bob", *fans[:4]}
            await until(ann, lambda: "bob" in people(room))
        await until(ann, lambda: ("left", "bob") in changes)
        listening.cancel()
        # whoever follows the changes has the members: those who came and went while it was counted are left out
        here: set[str] = set()
        for kind, user in changes:
            here.add(user) if kind == "joined" else here.discard(user)
        assert here == {"ann", *fans[:4]}
        # a few of them are named on the way down: from 80 % of the number on
        assert len({user for _, user in changes} & set(fans[MOST - 1 :])) <= MOST * 4 // 5


def test_a_member_reads_the_names_page_by_page_on_its_socket(server: ServerProcess) -> None:
    room = "arena"
    members = [enter(server, f"m{n:02}") for n in range(MOST + 5)]
    users = [f"m{n:02}" for n in range(MOST + 5)]
    for client in members[:-1]:
        client.ask({"type": "join", "id": 1, "room": room}, "room")
    told = members[-1].ask({"type": "join", "id": 1, "room": room}, "room")
    assert (told["count"], [one["user"] for one in told["page"]]) == (len(users), users)
    assert pages(members[0], room, 4) == users
    for client in members:
        client.tcp.close()


def pages(client: Raw, room: str, limit: int) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        asked = {"type": "page", "id": f"after {cursor}", "room": room, "cursor": cursor, "limit": limit}
        told = client.ask(asked, "room")
        found += [one["user"] for one in told["page"]]
        if "cursor" not in told:
            return found
        cursor = told["cursor"]


def test_the_api_reads_a_room_of_any_size_page_by_page(server: ServerProcess) -> None:
    members = [enter(server, f"s{n}") for n in range(3)]
    for client in members:
        client.ask({"type": "join", "id": 1, "room": "small"}, "room")
    with Api(server.url, api_key=server.api_key, trust_env=False) as api:
        assert [one.user for one in api.members("small", page=2)] == ["s0", "s1", "s2"]
        assert [one.user for one in api.members("nobody is here")] == []
        found = api.room("small")
        assert (found.count, found.statuses) == (3, None)
    for client in members:
        client.tcp.close()
