"""The ASGI side: one application for WebSockets, the HTTP API and the lifespan, below whatever mount."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from stillhere.embed.callbacks import LOG
from stillhere.http.app import build_app
from stillhere.server.node import Node
from stillhere.transport.asgi import AsgiWebSocket, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from stillhere.embed.presence import Presence

_GRANIAN = "granian.asgi"  # loaded in its worker processes; the functions that it hands over may be wrapped by then
_ABNORMAL = 1006
_TURNS = 3
"""Turns of the loop in which a question that is taken back has gone."""


class PresenceApp:
    """``presence.app``. An object, since servers that guess take a bound method for an application of ASGI 2."""

    def __init__(self, presence: Presence) -> None:
        """Serve a presence, whatever node it has at the time."""
        self._presence = presence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or connection, or the lifespan where the server has nothing else to serve."""
        presence = self._presence
        if scope["type"] == "lifespan":
            await serve_lifespan(presence.lifespan, receive, send)
            return
        if presence.fresh:  # one that was stopped refuses by itself
            LOG.warning(
                "presence is started by its first request: give presence.lifespan to your application, so that it "
                "is ready before that, and stops in order"
            )
            await presence.start()
        await presence.application(scope, receive, send)


class Application:
    """Serves one node."""

    def __init__(self, node: Node, path: str, *, asks: bool) -> None:
        """Put it together.

        Args:
            node: started and stopped by others.
            path: of WebSockets, below the mount.
            asks: whether the application is asked who comes in, which has a time-out of its own before the one of the
                whole verdict.
        """
        limits = node.settings.limits
        self._path = path
        self._http = build_app(node)
        self._websockets = AsgiWebSocket(
            node,
            max_message_bytes=limits.message_bytes,
            high_water=limits.outbox_bytes,
            low_water=limits.outbox_bytes // 4,
            verdict_timeout=limits.handshake_timeout * (2 if asks else 1),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or connection."""
        if scope["type"] != "websocket":
            await self._http(scope, receive, send)
            return
        path = scope["path"]
        root = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        if path == self._path:
            if _GRANIAN in sys.modules:
                receive, send = receiving_until_close(receive, send)
            await self._websockets(scope, receive, send)
        else:
            await self._websockets.refuse(scope, receive, send, 404, f"WebSockets are served at {self._path} only.")


def receiving_until_close(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """For a server that writes no close frame while it is being asked for the next message.

    Returns:
        The same two; the question is taken back before a close is sent, and answered with a disconnect after it.
    """
    loop = asyncio.get_running_loop()
    closing, closed = loop.create_future(), loop.create_future()

    async def receive_until_close() -> Message:
        coming = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({coming, closing}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
        finally:
            coming.cancel()
        await asyncio.wait({coming})
        await closed
        return {"type": "websocket.disconnect", "code": _ABNORMAL}

    async def send_alone(message: Message) -> None:
        if message["type"] != "websocket.close":
            await send(message)
            return
        if not closing.done():
            closing.set_result(None)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        try:
            await send(message)
        finally:
            if not closed.done():
                closed.set_result(None)

    return receive_until_close, send_alone


async def serve_lifespan(
    lifespan: Callable[[], AbstractAsyncContextManager[None]], receive: Receive, send: Send
) -> None:
    """Speak the lifespan protocol of ASGI: for an application that stands alone.

    https://asgi.readthedocs.io/en/latest/specs/lifespan.html
    """
    running = lifespan()
    started = False
    try:
        if (await receive())["type"] != "lifespan.startup":
            return
        await running.__aenter__()
        started = True
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await running.__aexit__(None, None, None)
    except Exception as error:
        await send({"type": f"lifespan.{'shutdown' if started else 'startup'}.failed", "message": str(error)})
        raise
    await send({"type": "lifespan.shutdown.complete"})
