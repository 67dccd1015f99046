"""Inside Starlette, FastAPI and Django, and alone: mounts, lifespans and helpers."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from stillhere.embed import NotRunning, Presence, get_presence
from stillhere.embed.django import with_presence
from stillhere.embed.fastapi import CurrentPresence
from stillhere.server.auth import mint

SECRET = "a secret for tests, and for nothing else"
KEY = "an API key for tests, and for nothing else"


@pytest.fixture
def presence() -> Presence:
    return Presence(store="memory:", secret=SECRET, settings={"admin.api_keys": [KEY]})


async def get(app: Any, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test") as client:
        return await client.get(path, headers={"X-API-Key": KEY})


async def test_fastapi_endpoints_have_it_as_a_parameter(presence: Presence) -> None:
    app = FastAPI(lifespan=presence.lifespan)
    app.mount("/presence", presence.app)

    @app.get("/status/{user}")
    async def status(user: str, presence: CurrentPresence) -> str:
        return await presence.status(user)

    async with app.router.lifespan_context(app):
        assert (await get(app, "/status/alice")).json() == "offline"
        assert (await get(app, "/presence/v1/users/alice")).json()["status"] == "offline"
        assert (await get(app, "/presence/readyz")).status_code == 200
        assert "/status/{user}" in (await get(app, "/openapi.json")).text


async def test_starlette_endpoints_ask_for_it(presence: Presence) -> None:
    async def status(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await get_presence(request).status("alice"))

    app = Starlette(routes=[Route("/", status), Mount("/deep/down", presence.app)], lifespan=presence.lifespan)
    async with app.router.lifespan_context(app):
        assert (await get(app, "/")).text == "offline"
        assert (await get(app, "/deep/down/v1/users/alice")).status_code == 200


async def test_an_application_without_the_lifespan_is_told_so(presence: Presence) -> None:
    async def status(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await get_presence(request).status("alice"))

    with pytest.raises(NotRunning, match=r"lifespan=presence\.lifespan"):
        await get(Starlette(routes=[Route("/", status)]), "/")


async def test_a_mount_whose_lifespan_was_forgotten_starts_with_a_warning(
    presence: Presence, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "stillhere.embed"):
        for _ in range(2):
            assert (await get(presence.app, "/v1/users/alice")).status_code == 200
    assert [record.name for record in caplog.records] == ["stillhere.embed"]
    await presence.stop()
    assert (await get(presence.app, "/readyz")).status_code == 503, "a stop is a stop: no late request starts it again"
    assert not presence.running


class Lifespan:
    """A server's side of the lifespan protocol."""

    def __init__(self, app: Any) -> None:  # an ASGI application, as any server takes it
        self.received: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.sent: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.task = asyncio.ensure_future(app({"type": "lifespan"}, self.received.get, self.sent.put))

    async def say(self, what: str) -> dict[str, str]:
        self.received.put_nowait({"type": f"lifespan.{what}"})
        return await asyncio.wait_for(self.sent.get(), 5)


async def test_alone_it_speaks_the_lifespan_protocol(presence: Presence) -> None:
    server = Lifespan(presence.app)
    assert await server.say("startup") == {"type": "lifespan.startup.complete"}
    assert presence.loop is asyncio.get_running_loop()
    assert await server.say("shutdown") == {"type": "lifespan.shutdown.complete"}
    assert not presence.running
    await server.task


async def test_a_start_that_fails_is_told_to_the_server(tmp_path: Any) -> None:
    presence = Presence(store=f"sqlite:///{tmp_path}/no/such/folder/x.db", secret=SECRET)
    server = Lifespan(presence.app)
    told = await server.say("startup")
    assert told["type"] == "lifespan.startup.failed" and "folder" in told["message"]
    with pytest.raises(Exception, match="folder"):
        await server.task


async def _site(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http", "Django's application serves nothing else"
    await PlainTextResponse(f"the site's {scope['path']}")(scope, receive, send)


async def test_django_gets_what_is_not_the_presences(presence: Presence) -> None:
    app: Any = with_presence(_site, presence, prefix="/here")
    server = Lifespan(app)
    await server.say("startup")
    assert (await get(app, "/")).text == "the site's /"
    assert (await get(app, "/hereafter")).text == "the site's /hereafter"
    assert (await get(app, "/here/v1/users/alice")).json()["user"] == "alice"
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/other", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
    await server.say("shutdown")
    await server.task


@pytest.mark.parametrize("prefix", ["presence", "/presence/", ""])
def test_a_prefix_that_is_none_is_refused(presence: Presence, prefix: str) -> None:
    with pytest.raises(ValueError, match="the prefix is"):
        with_presence(_site, presence, prefix=prefix)


def test_a_test_client_starts_and_stops_it_as_often_as_it_likes(presence: Presence) -> None:
    app = FastAPI(lifespan=presence.lifespan)
    app.mount("/presence", presence.app)

    @app.get("/status/{user}")
    def status(user: str, presence: CurrentPresence) -> str:
        return presence.sync.status(user)  # a plain endpoint, which FastAPI runs in a thread

    token = mint(SECRET, "alice", now=time.time())
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/status/alice").json() == "offline"
            with client.websocket_connect("/presence/ws", headers={"Authorization": f"Bearer {token}"}) as alice:
                assert alice.receive_json()["user"] == "alice"
                assert client.get("/status/alice").json() == "online"
        assert not presence.running
