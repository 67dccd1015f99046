"""The Python client against a real server: what it sees, what it survives, and what it says when it may not."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from stillhere.client import (
    Client,
    ClientError,
    ConnectionStatus,
    PresenceChange,
    RequestRefused,
    Status,
    Unauthorized,
    connect,
)
from stillhere.client.errors import Closed, Kicked, Superseded
from tests.acceptance.server import ServerProcess

WAIT = 10.0


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess({"auth.leeway_ms": 0}) as running:
        yield running


@pytest.fixture(autouse=True)
async def tidy() -> AsyncIterator[None]:
    """Whatever a test did, nothing is left running and nothing was left unsaid."""
    unsaid: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unsaid.append(context))
    yield
    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("stillhere")]
    gc.collect()
    await asyncio.sleep(0)
    assert left == [] and unsaid == []


def enter(server: ServerProcess, user: str, **more: Any) -> Client:
    """A client that gets a new token whenever it asks for one."""
    return connect(server.url, **{"get_token": lambda renew: server.token(user), "proxy": None, **more})


async def until(me: Client, true: Callable[[], bool]) -> None:
    await me.until(true, WAIT)


def statuses(changes: list[PresenceChange]) -> list[str]:
    return [str(change.now.status) for change in changes]


async def collect(me: Client, into: list[PresenceChange]) -> None:
    into += [change async for change in me]


# -- watching ------------------------------------------------------------------------------------------------------


async def test_a_watcher_sees_who_comes_changes_and_goes(server: ServerProcess) -> None:
    async with enter(server, "w1-alice") as me, enter(server, "w1-bob", availability="away") as bob:
        assert me.status is ConnectionStatus.ONLINE and me.identity.user == "w1-alice"
        me.watch(["w1-bob", "w1-nobody"])
        assert me.get("w1-bob").status is Status.UNKNOWN and me.get("w1-bob").stale
        await me.fresh()
        assert me.get("w1-nobody").status is Status.OFFLINE
        seen: list[PresenceChange] = []
        async with asyncio.timeout(WAIT):
            async for change in me:
                seen.append(change)
                match change.user, str(change.now.status):
                    case "w1-bob", "away":
                        bob.set_meta({"mood": "calm"})
                        bob.set_availability("busy")
                    case "w1-bob", "busy":
                        assert change.now.meta == {"mood": "calm"}
                        await bob.disconnect()
                    case "w1-bob", "offline":
                        break
        bobs = [change for change in seen if change.user == "w1-bob"]
        assert statuses(bobs) == ["away", "busy", "offline"] and bobs[0].before is None
        assert [view.user for view in me.snapshot().users] == ["w1-bob", "w1-nobody"]
        with pytest.raises(Closed):
            await bob.online()


async def test_a_program_that_ends_is_not_shown_offline_at_once_and_may_come_back(server: ServerProcess) -> None:
    async with enter(server, "w2-alice") as me:
        me.watch("w2-bob")
        async with enter(server, "w2-bob", tab="job-7"):
            await until(me, lambda: me.get("w2-bob").online)
        seen: list[PresenceChange] = []
        reader = asyncio.create_task(collect(me, seen))
        async with enter(server, "w2-bob", tab="job-7") as again:
            again.set_availability("busy")
            await until(me, lambda: me.get("w2-bob").status is Status.BUSY)
        await me.close()
        await reader
        assert statuses(seen)[-1] == "busy" and "offline" not in statuses(seen)


async def test_a_room_has_members_who_come_say_something_and_go(server: ServerProcess) -> None:
    async with enter(server, "r1-alice") as me, enter(server, "r1-bob") as bob:
        async with me.join("r1", {"seat": 1}) as room:
            assert [member.user for member in room.members] == ["r1-alice"]
            assert list(room.members[0].metas.values()) == [{"seat": 1}]
            theirs = bob.join("r1")
            kinds: list[tuple[str, str]] = []
            async with asyncio.timeout(WAIT):
                async for change in room:
                    kinds.append((change.kind, change.user))
                    match change.kind, change.user:
                        case "joined", "r1-bob":
                            theirs.set_meta({"seat": 2})
                        case "updated", "r1-bob":
                            assert list(change.member.metas.values()) == [{"seat": 2}]
                            theirs.leave()
                        case "left", _:
                            break
            assert kinds == [("joined", "r1-alice"), ("joined", "r1-bob"), ("updated", "r1-bob"), ("left", "r1-bob")]
        await until(me, lambda: server.get("/v1/rooms/r1")[1]["count"] == 0)
        assert [change async for change in room] == []


async def test_a_room_that_the_token_does_not_allow_is_an_error_where_it_is_entered(server: ServerProcess) -> None:
    token = server.token("r2-alice", rooms=["mine:*"])
    problems: list[ClientError] = []
    async with connect(server.url, token=token, proxy=None, on_problem=problems.append) as me:
        with pytest.raises(RequestRefused) as told:
            async with me.join("yours"):
                pass
        assert told.value.code == "forbidden" and problems == [told.value]
        async with me.join("mine:1") as room:
            assert [member.user for member in room.members] == ["r2-alice"]
        assert me.status is ConnectionStatus.ONLINE


# -- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash", [False, True], ids=["drain", "crash"])
async def test_a_restart_of_the_server_shows_nobody_offline(crash: bool) -> None:
    with ServerProcess({"store.url": "sqlite:///presence.db"}) as server:
        async with enter(server, "alice") as me, enter(server, "bob") as bob:
            me.watch("bob")
            async with me.join("lobby") as room:
                bob.join("lobby")
                await until(me, lambda: me.get("bob").online and len(room.members) == 2)
                ids = me.identity, bob.identity
                seen: list[PresenceChange] = []
                reader = asyncio.create_task(collect(me, seen))
                lost = asyncio.create_task(until(me, lambda: me.status is ConnectionStatus.RECONNECTING))
                await asyncio.to_thread(server.kill if crash else server.terminate)
                await lost
                assert (me.get("bob").status, me.get("bob").stale) == (Status.ONLINE, True)
                assert me.fault is not None and me.retry_in is not None
                await asyncio.to_thread(server.start)
                me.network_changed()
                bob.network_changed()
                await asyncio.gather(me.online(), bob.online())
                await me.fresh()
                bob.set_availability("busy")  # whoever sees this has seen everything before it
                await until(me, lambda: me.get("bob").status is Status.BUSY)
                assert {member.user for member in room.members} == {"alice", "bob"}
                for client, before in zip((me, bob), ids, strict=True):
                    assert client.identity.tab == before.tab
                    assert client.identity.connection_id != before.connection_id
                await me.close()
                await reader
        assert statuses(seen) == ["online", "busy"]
        if not crash:
            moved = server.log("active_socket_closed", cause="node_drain")
            assert {line["user"] for line in moved} == {"alice", "bob"}


async def test_who_is_kicked_stays_away_and_is_told_why(server: ServerProcess) -> None:
    async with enter(server, "e1-alice") as me:
        room = me.join("e1")
        reader = asyncio.create_task(collect(me, []))
        waiting = asyncio.create_task(until(me, lambda: False))
        await me.fresh()
        status, _ = await asyncio.to_thread(server.post, "/v1/users/e1-alice/disconnect", {"reason": "go home"})
        assert status == 200
        for task in (reader, waiting):
            with pytest.raises(Kicked, match="go home"):
                await task
        with pytest.raises(Kicked):
            async for _ in room:
                pass
        assert me.status is ConnectionStatus.REFUSED and isinstance(me.error, Kicked) and me.error.close_code == 4004
        assert me.retry_in is None
        connects = len(server.log("connection_established", user="e1-alice"))
        me.connect()
        await me.online()
        assert len(server.wait_log("connection_established", user="e1-alice", count=connects + 1)) == connects + 1


async def test_a_second_client_of_the_same_tab_takes_its_place(server: ServerProcess) -> None:
    async with enter(server, "e2", tab="one") as first, enter(server, "e2", tab="one") as second:
        with pytest.raises(Superseded):
            await first.until(lambda: False, WAIT)
        assert second.status is ConnectionStatus.ONLINE


# -- tokens --------------------------------------------------------------------------------------------------------


async def test_a_token_is_renewed_on_the_live_connection_before_it_ends(server: ServerProcess) -> None:
    asked: list[bool] = []

    async def get_token(renew: bool) -> str:
        asked.append(renew)
        return server.token("t1", ttl=2 if len(asked) == 1 else 3600)

    async with connect(server.url, get_token=get_token, proxy=None) as me:
        connection, began = me.identity.connection_id, time.monotonic()
        with pytest.raises(ClientError):
            await me.until(lambda: me.status is not ConnectionStatus.ONLINE, 3.0)
        assert time.monotonic() - began > 2.5
        assert me.identity.connection_id == connection and asked == [False, True]


async def test_an_expired_token_is_replaced_once(server: ServerProcess) -> None:
    asked: list[bool] = []

    def get_token(renew: bool) -> str:
        asked.append(renew)
        return server.token("t2", ttl=3600 if renew else -10)

    problems: list[ClientError] = []
    async with connect(server.url, get_token=get_token, proxy=None, on_problem=problems.append) as me:
        assert me.status is ConnectionStatus.ONLINE
    assert asked == [False, True] and [problem.code for problem in problems] == ["unauthorized"]


async def test_a_token_that_ends_and_has_no_successor_ends_the_client(server: ServerProcess) -> None:
    async with connect(server.url, token=server.token("t3", ttl=1.5), proxy=None) as me:
        with pytest.raises(Unauthorized, match="get_token"):
            await me.until(lambda: False, WAIT)


# -- many at once, and cancelled ones ------------------------------------------------------------------------------


async def test_a_client_that_is_cancelled_at_any_moment_leaves_nothing_behind(server: ServerProcess) -> None:
    async def live() -> None:
        async with enter(server, "c1") as me, me.join("c1"):
            await me.until(lambda: False, WAIT)

    for pause in (0.0, 0.001, 0.003, 0.006, 0.01, 0.02, 0.05):
        task = asyncio.create_task(live())
        await asyncio.sleep(pause)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    running = {task.get_name() for task in asyncio.all_tasks()}
    assert not [name for name in running if name.startswith("stillhere")]


async def test_fifty_clients_in_one_program_see_each_other(server: ServerProcess) -> None:
    users = [f"m{n}" for n in range(50)]
    async with AsyncExitStack() as stack:
        clients = [enter(server, user) for user in users]
        await asyncio.gather(*(stack.enter_async_context(client) for client in clients))
        for client in clients:
            client.watch(users)
        for client in clients:
            await client.fresh()
            await until(client, lambda: all(one.online for one in client.snapshot().users))  # noqa: B023 - awaited here
            assert len(client.snapshot().users) == len(users)
