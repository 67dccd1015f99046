"""Presence inside an application with a log-in of its own: the cookie ``who`` says who it is.

``plain`` is the bare ASGI application, ``mounted`` the same inside Starlette, behind a middleware that makes a session.
Some names behave in their own way: ``nobody`` is refused, ``broken`` makes the log-in fail, ``hanging`` makes it hang.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from stillhere.embed import Identity, Presence, Request, Transition, identity

PATIENCE_MS = 1000
"""How long the log-in may take."""

asked: list[str] = []
"""Whom ``may_watch`` was asked about."""


async def who_is_this(request: Request) -> Identity | None:
    """The log-in."""
    who = request.session["who"] if "session" in request.scope else request.cookies.get("who", "nobody")
    if who == "broken":
        raise RuntimeError("the password of the database is swordfish")
    if who == "hanging":
        await asyncio.Event().wait()
    return None if who == "nobody" else identity(who)


async def may_watch(who: Identity, user: str) -> bool:
    """Everybody may watch everybody but the boss."""
    asked.append(user)
    await asyncio.sleep(0)
    return user != "boss"


presence = Presence(
    store=os.environ.get("PRESENCE_STORE", "memory:"),
    authenticate=who_is_this,
    may_watch=may_watch,
    settings={
        "limits.handshake_timeout_ms": PATIENCE_MS,
        "cluster.beat_ms": 500,
        "admin.api_keys": ["a key for the tests of embedding, long"],
    },
)
plain = presence.app

told: list[tuple[str, str]] = []
"""Every transition that this process was told of."""


@presence.on_transition
def note(transition: Transition) -> None:
    told.append((transition.user, transition.status.value))


class Session:
    """As a session middleware does it: what the cookie says stands in the scope."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            scope["session"] = {"who": HttpRequest({**scope, "type": "http"}).cookies.get("who", "nobody")}
        await self._app(scope, receive, send)


async def questions(request: HttpRequest) -> JSONResponse:
    """Whom ``may_watch`` was asked about."""
    return JSONResponse(asked)


async def transitions(request: HttpRequest) -> JSONResponse:
    """What this process was told."""
    return JSONResponse(told)


def status(request: HttpRequest) -> JSONResponse:
    """From a thread, which Starlette gives to plain functions."""
    return JSONResponse(presence.sync.status(request.path_params["user"]))


async def disconnect(request: HttpRequest) -> JSONResponse:
    """Kick somebody, wherever."""
    return JSONResponse(await presence.disconnect(request.path_params["user"], "enough"))


mounted = Starlette(
    routes=[
        Route("/asked", questions),
        Route("/told", transitions),
        Route("/status/{user}", status),
        Route("/disconnect/{user}", disconnect, methods=["POST"]),
        Mount("/presence", presence.app),
    ],
    middleware=[Middleware(Session)],
    lifespan=presence.lifespan,
)
