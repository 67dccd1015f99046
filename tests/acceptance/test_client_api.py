"""The HTTP API through the Python client, against a real server: the same promises for :class:`Api` and `AsyncApi`."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from stillhere.client import Api, AsyncApi, Client, Gap, Transition, connect
from stillhere.client.errors import (
    BadCall,
    BadCredentials,
    BadId,
    NoAnswer,
    NotAllowed,
    NotFound,
    StrangeAnswer,
    Unavailable,
)
from tests.acceptance.server import ServerProcess

WAIT = 10.0


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as running:
        yield running


class Either:
    """Calls one of the two kinds by name, and gives iterators as lists: a test of one is a test of both."""

    def __init__(self, api: Api | AsyncApi) -> None:
        self.api = api

    async def __call__(self, name: str, *args: Any, **more: Any) -> Any:
        method = getattr(self.api, name)
        if isinstance(self.api, Api):
            many = inspect.isgeneratorfunction(method)
            return await asyncio.to_thread(lambda: list(method(*args, **more)) if many else method(*args, **more))
        found = method(*args, **more)
        return [one async for one in found] if inspect.isasyncgen(found) else await found


@pytest.fixture(params=[Api, AsyncApi], ids=["sync", "async"])
async def api(request: pytest.FixtureRequest, server: ServerProcess) -> AsyncIterator[Either]:
    one: Api | AsyncApi = request.param(server.url, api_key=server.api_key, trust_env=False)
    yield Either(one)
    if isinstance(one, AsyncApi):
        await one.close()
    else:
        one.close()


def enter(server: ServerProcess, user: str, **more: Any) -> Client:
    return connect(server.url, token=server.token(user), proxy=None, **more)


# -- the calls -----------------------------------------------------------------------------------------------------


async def test_the_api_tells_what_watchers_see(server: ServerProcess, api: Either) -> None:
    odd = "u/ä %2F?#&"
    async with enter(server, odd) as me, enter(server, "u-bob", availability="busy"):
        me.set_meta({"mood": "calm"})
        async with me.join("room/one", {"seat": 1}):
            shown = await api("user", odd)
            assert (shown.user, shown.status, shown.devices, shown.meta) == (odd, "online", 1, {"mood": "calm"})
            found = await api("query", [odd, "u-bob", "u-nobody", odd])
            assert [one.status for one in found.users] == ["online", "busy", "offline"] and found.complete
            assert {one.user for one in await api("users", prefix="u", page=1)} >= {odd, "u-bob"}
            assert [one.user for one in await api("users", prefix="u-", status="busy")] == ["u-bob"]
            known = await api("diagnostics", odd)
            assert known.online and known.active_connection_count == 1 and known.grace is None
            assert known.connections[0].tab == me.identity.tab and known.connections[0].node == "n1"
            assert known.last_transition.type.startswith("PRESENCE_")
            assert [(one.room, one.members) for one in await api("rooms", page=1)] == [("room/one", 1)]
            room = await api("room", "room/one")
            assert room.count == 1 and room.members[0].metas[0].meta == {"seat": 1}
    empty = await api("room", "nobody-here")
    assert (empty.count, empty.members) == (0, [])


async def test_the_api_tells_of_the_installation(server: ServerProcess, api: Either) -> None:
    (node,) = await api("nodes")
    assert (node.node, node.ready, node.draining) == ("n1", True, False)
    stats = await api("stats")
    assert stats.node == "n1" and stats.service.store_reachable and stats.totals.connects >= 0


async def test_who_is_disconnected_is_gone_at_once(server: ServerProcess, api: Either) -> None:
    async with enter(server, "k-alice") as me:
        gone = await api("disconnect", "k-alice", "closed for the night")
        assert (gone.user, gone.disconnected) == ("k-alice", 1)
        assert (await api("user", "k-alice")).status == "offline"
        assert (await api("disconnect", "k-alice")).disconnected == 0
        assert me.error is None or "closed for the night" in str(me.error)


async def test_what_is_wrong_is_told_by_type_and_with_the_servers_words(server: ServerProcess, api: Either) -> None:
    with pytest.raises(NotFound, match="n2"):
        await api("drain", "n2")
    with pytest.raises(BadCall, match="limit"):
        await api("users", page=5000)
    with pytest.raises(BadCall, match="status"):
        await api("users", status="asleep")
    with pytest.raises(BadId):
        await api("user", "..")


@pytest.mark.parametrize("kind", [Api, AsyncApi])
async def test_credentials_that_do_not_suffice_are_told_apart(
    server: ServerProcess, kind: type[Api | AsyncApi]
) -> None:
    def made(**credentials: Any) -> Either:
        return Either(kind(server.url, trust_env=False, **credentials))

    for wrong in (made(), made(api_key="guessed"), made(token="a.b.c"), made(token=server.token("ops", ttl=-60))):
        with pytest.raises(BadCredentials):
            await wrong("nodes")
    with pytest.raises(NotAllowed):
        await made(token=server.token("ops"))("nodes")
    reader = made(token=server.token("ops", scope="read"))
    assert len(await reader("nodes")) == 1
    with pytest.raises(NotAllowed, match="admin"):
        await reader("disconnect", "somebody")
    admin = made(token=server.token("ops", scope="admin"))
    assert (await admin("disconnect", "nobody")).disconnected == 0
    for one in (reader, admin):
        await one("close") if kind is AsyncApi else one.api.close()


async def test_a_drain_moves_everybody_and_they_say_so() -> None:
    with ServerProcess({"server.drain_s": 1.0}) as server:
        async with AsyncApi(server.url, api_key=server.api_key, trust_env=False) as api, enter(server, "alice") as me:
            draining = await api.drain("n1")
            assert (draining.node, draining.connections, draining.drain_ms) == ("n1", 1, 1000)
            await me.until(lambda: me.fault is not None, WAIT)
            assert "1012" in str(me.fault) and me.status == "reconnecting"
            await me.until(lambda: "503" in str(me.fault), WAIT)  # this node takes nobody; another one would
            assert (await api.nodes())[0].draining


# -- events --------------------------------------------------------------------------------------------------------


async def test_events_come_in_order_and_once_and_go_on_after_a_restart() -> None:
    with ServerProcess({"store.url": "sqlite:///presence.db"}) as server:
        async with AsyncApi(server.url, api_key=server.api_key, trust_env=False) as api:
            seen: list[Transition] = []
            listening = asyncio.Event()

            async def read() -> None:
                async with aclosing(
                    api.events(users=["alice", "early"], types=["PRESENCE_ONLINE", "PRESENCE_OFFLINE"])
                ) as events:
                    async for event in events:
                        assert isinstance(event, Transition)
                        listening.set()
                        seen.extend([event] if event.user == "alice" else [])
                        if len(seen) == 4:
                            return

            reader = asyncio.create_task(read())
            while not listening.is_set():  # a stream without a cursor begins when it begins
                async with enter(server, "early") as early:
                    await early.disconnect()
            for round in range(2):
                async with enter(server, "bob"), enter(server, "alice") as me:
                    await me.disconnect()
                if round == 0:
                    await asyncio.to_thread(server.restart)
            await asyncio.wait_for(reader, WAIT)
            assert [event.change for event in seen] == ["PRESENCE_ONLINE", "PRESENCE_OFFLINE"] * 2
            assert seen[1].cause == "bye" and seen[0].presence is not None and seen[0].presence.status == "online"
            versions = [event.version for event in seen]
            assert versions == sorted(set(versions))

            def resume() -> list[Transition | Gap]:
                again = Api(server.url, api_key=server.api_key, trust_env=False)
                with again, closing(again.events(seen[1].cursor, users=["alice"])) as events:
                    return [next(events), next(events)]

            assert await asyncio.to_thread(resume) == seen[2:]


async def test_a_reader_without_the_right_to_read_is_told_at_once(server: ServerProcess) -> None:
    with Api(server.url, token=server.token("a"), trust_env=False) as api, pytest.raises(NotAllowed):
        next(api.events())
    async with AsyncApi(server.url, api_key=server.api_key, trust_env=False) as aapi:
        with pytest.raises(BadCall, match="cursor"):
            await anext(aapi.events("no cursor"))


# -- servers that are away, broken, or another kind ----------------------------------------------------------------


Canned = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


class Sick(ThreadingHTTPServer):
    """Answers as it is told, once each, and counts."""

    daemon_threads = True

    def __init__(self, *answers: Canned | None) -> None:
        """Take the answers: status, headers and body, or None to hang up without a word."""
        self.asked: list[str] = []
        asked, left = self.asked, list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(f"{self.command} {self.path}")
                answer = left.pop(0)
                if answer is None:
                    self.connection.close()
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - as above

            def log_message(self, format: str, *args: object) -> None:
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (OSError, ValueError):
                    self.close_connection = True

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def server_close(self) -> None:
        self.shutdown()
        super().server_close()


GOOD: Canned = (
    200,
    {},
    msgspec.json.encode({"user": "a", "status": "online", "epoch": "1", "version": 1, "changedAt": 1}),
)
BUSY: Canned = (503, {"Retry-After": "0"}, b'{"title":"Service Unavailable","status":503,"detail":"the store is away"}')


@pytest.mark.parametrize("kind", [Api, AsyncApi])
async def test_a_call_that_changes_nothing_is_sent_again_and_one_that_does_is_not(kind: type[Api | AsyncApi]) -> None:
    with Sick(BUSY, None, GOOD, None, BUSY, BUSY, BUSY) as sick:
        api = Either(kind(sick.url, trust_env=False))
        assert (await api("user", "a")).status == "online"
        assert len(sick.asked) == 3
        with pytest.raises(NoAnswer):
            await api("disconnect", "a")
        assert len(sick.asked) == 4
        with pytest.raises(Unavailable, match="the store is away"):
            await api("nodes")
        assert len(sick.asked) == 7
        await api("close") if kind is AsyncApi else api.api.close()


@pytest.mark.parametrize(
    "answer", [(200, {}, b"<html>hello</html>"), (200, {}, b"{}"), (302, {"Location": "http://127.0.0.1:1/"}, b"")]
)
async def test_another_kind_of_server_is_told_from_one_of_ours(answer: Canned) -> None:
    with Sick(answer) as sick, Api(sick.url, api_key="k", trust_env=False) as api, pytest.raises(StrangeAnswer):
        api.user("a")
    assert len(sick.asked) == 1


def test_a_port_where_nobody_listens_is_an_error_after_few_tries() -> None:
    with Sick() as sick:
        url = sick.url
    began = time.monotonic()
    with Api(url, trust_env=False) as api, pytest.raises(NoAnswer, match="Check the url"):
        api.disconnect("a")
    assert time.monotonic() - began < 3
