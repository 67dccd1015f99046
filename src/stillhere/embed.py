"""Stillhere inside an application of your own, on any ASGI server.

::

    presence = Presence(secret="…", store="sqlite:///presence.db")
    app = Starlette(lifespan=presence.lifespan)
    app.mount("/presence", presence.app)

WebSockets are then at ``/presence/ws`` and the HTTP API at ``/presence/v1``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from stillhere.core.words import Status, UserId
from stillhere.http.app import build_app
from stillhere.server.assembly import make_node
from stillhere.server.node import Admit
from stillhere.server.settings import load_settings, require_auth
from stillhere.transport.asgi import AsgiWebSocket, Receive, Scope, Send
from stillhere.wire.ids import id_fault


class Presence:
    """A node, and the ASGI application that serves it."""

    def __init__(
        self,
        *,
        secret: str | None = None,
        store: str = "sqlite:///stillhere.db",
        admit: Admit | None = None,
        path: str = "/ws",
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """Prepare; nothing is opened before :meth:`start` (or the lifespan).

        Args:
            secret: the HMAC secret of the tokens, at least 32 bytes.
            store: ``memory:`` or ``sqlite:///file.db``.
            admit: asked after a token was verified, with the identity and the request; False refuses.
            path: where WebSockets are served, below the mount.
            settings: any others, by ``section.key``, as in ``{"grace.profile": "fast"}``.

        Raises:
            SettingsError: a setting is wrong, or there is no key to verify tokens with.
            StoreRefused: there is no such store.
        """
        flags: dict[str, object] = {"store.url": store, **(settings or {})}
        if secret is not None:
            flags["auth.secret"] = secret
        self.settings = load_settings(None, {}, flags)
        require_auth(self.settings)
        self.node = make_node(self.settings, admit=admit)
        self._path = path
        self._http = build_app(self.node)
        outbox = self.settings.limits.outbox_bytes
        self._websockets = AsgiWebSocket(
            self.node,
            max_message_bytes=self.settings.limits.message_bytes,
            high_water=outbox,
            low_water=outbox // 4,
            verdict_timeout=self.settings.limits.handshake_timeout,
        )

    async def start(self) -> None:
        """Open the store and begin."""
        await self.node.start()

    async def stop(self) -> None:
        """Close every connection with 1012 and the store after them; windows of ``node_drain`` cover the restart."""
        await self.node.stop()

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """For ``Starlette(lifespan=presence.lifespan)``; a mounted application's own lifespan would not run."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application; mount it wherever you like."""
        if scope["type"] != "websocket":
            await self._http(scope, receive, send)
            return
        path = scope["path"]
        root = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        if path == self._path:
            await self._websockets(scope, receive, send)
        else:
            await self._websockets.refuse(scope, receive, send, 404, f"WebSockets are served at {self._path} only.")

    async def status(self, user: str) -> Status:
        """What watchers are shown of a user at this moment."""
        return (await self.statuses([user]))[user]

    async def statuses(self, users: Iterable[str]) -> dict[str, Status]:
        """The same of several users, all at one instant.

        Raises:
            ValueError: an id that cannot be one.
        """
        ids = [UserId(user) for user in users]
        for user in ids:
            if (fault := id_fault(user)) is not None:
                raise ValueError(f"the user id {user[:40]!r} {fault}")
        snapshot = await self.node.store.snapshot(ids)
        return {user: shown.status for user, shown in snapshot.users.items()}

    def disconnect(self, user: str, reason: str = "") -> int:
        """Kick a user: every connection is closed with 4004, and the user is offline at once."""
        return self.node.disconnect(UserId(user), reason)
