"""The application's own log-in, beside tokens: who comes in, who does not, and what a mistake costs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from starlette.exceptions import HTTPException

from stillhere.embed import HostFailed, Identity, NotAuthenticated, Presence, Request, identity
from stillhere.server.socket import Refusal, UpgradeRequest
from stillhere.testing import Refused, World, presence_world


@asynccontextmanager
async def guarded(authenticate: Callable[[Request], Any], **options: Any) -> AsyncIterator[World]:
    """A world whose presence has this log-in, and tokens beside it."""
    async with presence_world(authenticate=authenticate, **options) as world:
        yield world


def by_cookie(request: Request) -> str | None:
    return request.cookies.get("who")


def failures(world: World, callback: str, why: str) -> float:
    registry = world.presence.node.metrics.registry
    labels = {"callback": callback, "why": why}
    return registry.get_sample_value("stillhere_callback_failures_total", labels) or 0.0


async def status(world: World, **options: Any) -> int:
    """Of the refusal of an upgrade without a token."""
    with pytest.raises(Refused) as refused:
        await world.connect(None, **options)
    return refused.value.status


async def test_a_user_id_is_an_answer_and_none_is_401() -> None:
    async with guarded(by_cookie) as world:
        alice = await world.connect(None, cookies={"who": "alice"})
        assert alice.messages[0]["user"] == "alice"
        assert await status(world) == 401


async def test_an_identity_says_all_that_a_token_would() -> None:
    async def who(request: Request) -> Identity:
        return identity(
            request.query["name"],
            session="s-" + request.query["name"],
            info={"name": "A"},
            watch=["bob"],
            rooms=["kitchen"],
            expires_at=world.clock.now() + 60,
        )

    async with guarded(who) as world:
        bob = await world.connect("bob", watches=["alice"])
        alice = await world.connect(None, query={"name": "alice"}, watches=["bob", "carol"], rooms=["kitchen"])
        assert alice.messages[0]["sessionId"] == "s-alice"
        assert alice.members("kitchen") == {"alice": "online"} and alice.sees("bob") == "online"
        assert bob.messages[-1]["changes"][0]["info"] == {"name": "A"}
        await world.advance(61)
        assert alice.closed == (4001, "the token has expired")


async def test_an_identity_without_an_end_lasts() -> None:
    async with guarded(by_cookie) as world:
        alice = await world.connect(None, cookies={"who": "alice"})
        await world.advance(1800)
        assert alice.connected


async def test_a_token_is_judged_as_a_token_and_nobody_is_asked() -> None:
    asked: list[Request] = []
    async with guarded(asked.append) as world:
        await world.connect("alice")
        assert asked == []
        headers = {"authorization": "Bearer forged"}
        assert await status(world, headers=headers) == 401
        assert asked == []


async def test_without_a_key_the_application_is_given_the_token() -> None:
    tokens: list[str | None] = []

    async def who(request: Request) -> str:
        tokens.append(request.token)
        return "alice"

    presence = Presence(store="memory:", authenticate=who)
    upgrade = UpgradeRequest("/ws", {}, {"host": "h", "authorization": "Bearer opaque"}, "")
    async with presence.lifespan():
        verdict = presence.node.greet(upgrade)
        assert not isinstance(verdict, Refusal)
        await verdict  # type: ignore[misc]
    assert tokens == ["opaque"]


async def test_the_request_shows_what_a_middleware_found_out() -> None:
    async def who(request: Request) -> str:
        return f"{request.session['name']}-{request.user.name}-{request.headers['x-app']}-{request.remote}"

    class User:
        name = "A"

    async with guarded(who) as world:
        alice = await world.connect(None, scope={"session": {"name": "a"}, "user": User()}, headers={"x-app": "1"})
        assert alice.messages[0]["user"] == "a-A-1-127.0.0.1"


async def test_a_session_that_no_middleware_made_is_the_applications_mistake() -> None:
    async with guarded(lambda request: request.session["name"]) as world:
        with pytest.raises(HostFailed, match="authenticate raised RuntimeError") as failed:
            await world.connect(None)
        assert "SessionMiddleware has to surround" in str(failed.value.__cause__)


@pytest.mark.parametrize("error", [NotAuthenticated("log in first"), HTTPException(403, "log in first")])
async def test_the_application_may_refuse_with_a_sentence(error: Exception) -> None:
    def who(request: Request) -> None:
        raise error

    async with guarded(who) as world:
        with pytest.raises(Refused, match="401: log in first"):
            await world.connect(None)
        assert failures(world, "authenticate", "raised") == 0


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (5, "returned 5; it must be identity"),
        (True, "returned True"),
        ("", "returned what cannot be a user"),
        ({"user": "alice"}, "returned {'user': 'alice'}"),
        (identity("alice", info={"x": "y" * 5000}), "an info of 5008 bytes; limits.info_bytes allows 1024"),
        (identity("alice", info={"x": object()}), "an info that is no JSON"),
    ],
)
async def test_an_answer_of_the_wrong_kind_is_a_mistake_that_is_counted(answer: object, why: str) -> None:
    async with guarded(lambda request: answer) as world:
        with pytest.raises(HostFailed, match=why):
            await world.connect(None)
        assert failures(world, "authenticate", "wrong") == 1
        await world.connect("alice")


async def test_an_expired_session_is_401() -> None:
    async with guarded(lambda request: identity("alice", expires_at=5)) as world:
        assert await status(world) == 401


async def test_a_log_in_that_hangs_is_503_in_the_time_of_a_handshake_and_leaves_nothing() -> None:
    async def who(request: Request) -> None:
        await asyncio.Event().wait()

    async with guarded(who) as world:
        waiting = asyncio.ensure_future(world.connect(None))
        await world.advance(4.9)
        assert not waiting.done()
        await world.advance(0.2)
        with pytest.raises(Refused) as refused:
            await waiting
        assert refused.value.status == 503
        assert failures(world, "authenticate", "late") == 1
        assert world.presence.node.roster.connections == {}


async def test_a_plain_function_that_blocks_keeps_nobody_else_waiting() -> None:
    go_on, waited = threading.Event(), []

    def who(request: Request) -> str:
        waited.append(go_on.wait(10))
        return "alice"

    presence = Presence(store="memory:", authenticate=who)
    upgrade = UpgradeRequest("/ws", {}, {"host": "h", "origin": "http://h"}, "")
    async with presence.lifespan():
        verdict = asyncio.ensure_future(presence.node.greet(upgrade))  # type: ignore[arg-type]
        assert await presence.status("alice") == "offline"
        go_on.set()
        await verdict
    assert waited == [True]


async def test_where_there_is_no_origin_a_cookie_is_not_enough() -> None:
    async with guarded(by_cookie) as world:
        assert await status(world, cookies={"who": "alice"}, headers={"origin": "https://evil.example"}) == 403
        upgrade = UpgradeRequest("/ws", {}, {"host": "app.test", "cookie": "who=alice"}, "")
        verdict = world.presence.node.greet(upgrade)
        assert isinstance(verdict, Refusal)
        assert (verdict.status, b"bearer token" in verdict.body) == (403, True)


async def test_origins_that_are_allowed_may_bring_their_cookie() -> None:
    async with guarded(by_cookie, settings={"origins.allowed": ["https://app.example"]}) as world:
        await world.connect(None, cookies={"who": "alice"}, headers={"origin": "https://app.example"})


async def test_an_admit_has_the_last_word_after_the_log_in() -> None:
    seen: list[str] = []

    def admit(who: Identity, request: UpgradeRequest) -> bool:
        seen.append(who.user)
        return who.user != "bob"

    async with guarded(by_cookie, admit=admit) as world:
        await world.connect(None, cookies={"who": "alice"})
        assert await status(world, cookies={"who": "bob"}) == 403
    assert seen == ["alice", "bob"]


async def test_a_mistake_is_logged_once_where_the_client_is_told_of_it(caplog: pytest.LogCaptureFixture) -> None:
    async def who(request: Request) -> None:
        raise RuntimeError("the password is swordfish")

    presence = Presence(store="memory:", authenticate=who)
    sent: list[Any] = []
    scope = {
        "type": "websocket",
        "path": "/ws",
        "headers": [(b"host", b"h"), (b"origin", b"http://h")],
        "extensions": {"websocket.http.response": {}},
    }
    events = asyncio.Queue[dict[str, str]]()
    events.put_nowait({"type": "websocket.connect"})

    async def send(message: Any) -> None:
        sent.append(message)

    async with presence.lifespan():
        with caplog.at_level(logging.WARNING):
            await presence.app(scope, events.get, send)
    assert sent[0]["status"] == 500
    assert "swordfish" not in msgspec.json.decode(sent[1]["body"])["detail"]
    (record,) = caplog.records
    assert record.exc_info is not None and "authenticate raised RuntimeError" in str(record.exc_info[1])
